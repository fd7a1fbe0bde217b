"""The activity of items at few moments, for examples of any time."""

from collections.abc import Sequence

import numpy as np

from training.datasets.walk_forward import PastExample
from training.models.activity_log import ActivityLog

MOST = 24
"""Moments in memory: 16 bytes per item each."""


class Moments:
    """An example sees the activity at the last moment that is not after it, so nothing from later."""

    def __init__(self, log: ActivityLog, examples: Sequence[PastExample]) -> None:
        times = np.unique([example.as_of for example in examples])
        if len(times) > MOST:
            times = np.unique(np.quantile(times, np.linspace(0, 1, MOST, endpoint=False), method="lower"))
        self._times = times
        self.activities = list(log.at(times.tolist()))

    def place_of(self, example: PastExample) -> int:
        """In `activities`."""
        return int(np.searchsorted(self._times, example.as_of, side="right")) - 1
