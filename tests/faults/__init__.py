"""What docs/reliability.md promises, proven: real services over sockets, and every part of them made to fail."""
