"""`make soak`: months of operation in half an hour, on a stack of its own, with the memory of every process."""
