"""Benchmarks of the running services. Each figure is printed next to a baseline from the same run."""
