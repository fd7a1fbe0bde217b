"""Garbage collector settings for services: collections are rare and skip the objects that exist after startup.

A full collection visits every object of the process. With all imported modules that takes about 100 ms, and every
request waits for it.
"""

import gc


def tune_garbage_collection() -> None:
    """Call this once, when the service has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
