"""The jobs, in their order: prepare, train, evaluate, register, index, seed. Each is `python -m training.<name>`."""
