"""Simulated visitors of a generated shop, to prove that the loop closes. `docs/loop.md` describes the experiment."""
