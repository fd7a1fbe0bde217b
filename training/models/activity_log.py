"""The activity of items as of any moment of the log, from the events before that moment alone."""

from collections.abc import Iterator, Sequence

import numpy as np

from recsys.contracts.activity import DAY, day_of
from recsys.model.activity_counts import ActivityCounts, DayCounts
from recsys.model.item_activity import Activity, unknown_activity
from recsys.model.live_activity import ActivityBase
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
        counts, read = ActivityCounts.none(self._num_items), 0
        for moment in moments:
            before = self._before(moment)
            counts = counts.after_events(self._items[read:before], self._times[read:before])
            read = before
            yield counts.at(moment)

    def base(self, moment: float) -> ActivityBase | None:
        """The counts of the events before `moment`, to which live events can be added; None if the log has no times."""
        known = self._before(moment)
        if not (self.has_times and known):
            return None
        day = day_of(self._times[known - 1])
        midnight = self._before(day * DAY)
        before = ActivityCounts.none(self._num_items).after_events(self._items[:midnight], self._times[:midnight])
        last_day = slice(midnight, known)
        return ActivityBase(before, DayCounts.of_events(day, self._items[last_day], self._times[last_day]))

    def _before(self, moment: float) -> int:
        """How many events are before a moment."""
        return int(np.searchsorted(self._times, moment))
