"""The event log on its way from Redis to files, and what is read from them."""
