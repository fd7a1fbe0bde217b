"""The activity of items as of any moment of the log, from the events before that moment alone."""

from collections.abc import Iterator, Sequence

import numpy as np

from recsys.model.item_activity import DAY, HALF_LIVES, Activity, activity_of, unknown_activity
from training.datasets.sequences import Sequences
from training.datasets.splits import NOWHERE


class ActivityLog:
    """All events that may be known; test items are not among them."""

    def __init__(self, sequences: Sequences) -> None:
        times = np.asarray(sequences.times)
        self._num_items = sequences.num_items
        self.has_times = sequences.has_times
        tested = sequences.split.test_places
        users = np.repeat(np.arange(sequences.num_users), np.diff(sequences.offsets))
        place = np.arange(len(times)) - sequences.offsets[users]
        known = np.flatnonzero((tested[users] == NOWHERE) | (place < tested[users]))
        known = known[np.argsort(times[known], kind="stable")]
        self._times, self._items = times[known], np.asarray(sequences.items)[known]
        self.end = int(self._times[-1]) + 1
        """The first second after the last event."""

    def as_of(self, moment: float) -> Activity:
        """[num_items + 1, ACTIVITY_NAMES] from the events before `moment`, a Unix time."""
        return next(self.at([moment]))

    def at(self, moments: Sequence[float]) -> Iterator[Activity]:
        """The same for each of the moments, which ascend; the log is read once for all of them."""
        if not self.has_times:
            yield from (unknown_activity(self._num_items) for _ in moments)
            return
        size = self._num_items + 1
        counts, first = np.zeros((len(HALF_LIVES), size)), np.full(size, np.nan)
        read, previous = 0, 0.0
        for moment in moments:
            before = int(np.searchsorted(self._times, moment))
            items, times = self._items[read:before], self._times[read:before]
            age_days = (moment - times) / DAY
            for row, half_life in enumerate(HALF_LIVES):
                counts[row] *= 0.5 ** ((moment - previous) / DAY / half_life)
                counts[row] += np.bincount(items, 0.5 ** (age_days / half_life), size)
            new = np.isnan(first[items])
            first[items[new][::-1]] = times[new][::-1]  # the first event of an item is written last
            read, previous = before, moment
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
            yield activity_of(shares, (moment - first) / DAY)
