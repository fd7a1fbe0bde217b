"""Simulated visitors of a generated shop show that the loop closes; `docs/simulation.md` describes the experiment."""
