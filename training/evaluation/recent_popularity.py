"""The popularity of items in a recent period, or with exponential decay, when a window of the evaluation begins."""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.windows import Window

DAY = 86_400
"""Seconds."""


def counts_of_days(window: Window, num_items: int, days: int) -> NDArray[np.int64]:
    """[num_items + 1]: the events of each item in the last `days` before the window."""
    recent = window.known_ages <= days * DAY
    return np.bincount(window.known_items[recent], minlength=num_items + 1)


def decayed_counts(window: Window, num_items: int, half_life_days: float) -> NDArray[np.float64]:
    """[num_items + 1]: the events of each item before the window; each counts half as much after every half-life."""
    weights = 0.5 ** (window.known_ages / (half_life_days * DAY))
    return np.bincount(window.known_items, weights, minlength=num_items + 1).astype(np.float64)
