"""Garbage is collected seldom, and never among what a service keeps for as long as it runs: a full collection walks
through every object of the process, some 100 ms with all that is imported, and every request waits for it."""

import gc


def tune_garbage_collection() -> None:
    """Called when a service has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
