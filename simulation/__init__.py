"""Simulated visitors of a generated shop, to prove that the loop closes. `docs/simulation.md` describes the experiment."""
