"""Simulated visitors of a generated shop, to show that the loop closes. `docs/simulation.md` describes the experiment."""
