"""The events that the activity of items follows from, counted: in a log, in a day, and both together.

Training reads the events of a log one by one, and a ranker adds the sums of later days from the feature store. Both end
in `ActivityCounts`, so the numbers are the same.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.activity import DAY, HALF_LIVES
from recsys.model.item_activity import Activity, activity_of
from recsys.model.neighbours import Indices

LONGEST_PAUSE = 7.0 * DAY
"""Time without any event counts as at most this, in seconds. So the counts of a log that ended long ago are still there
when the first live event arrives."""

Floats = NDArray[np.float64]
EventItems = Indices | NDArray[np.int32]
"""[events]: item indices."""
_HALF_LIVES = np.array(HALF_LIVES)


@dataclass(frozen=True)
class DayCounts:
    """The events of a UTC day, for the items that a release knows."""

    day: int
    first: float
    last: float
    """Unix times of the first and the last event."""
    items: Indices
    """[items of the day]"""
    weights: Floats
    """[len(HALF_LIVES), items of the day]: sums as in `recsys.contracts.activity`."""
    item_first: Floats
    """[items of the day]: Unix times."""
    totals: Floats
    """[len(HALF_LIVES)]: sums over all events, also those of items that are left out."""

    @classmethod
    def of_events(cls, day: int, items: EventItems, times: NDArray[np.int64]) -> Self:
        """Events of the day, at least one, in the order of their times."""
        used, first = np.unique(items, return_index=True)
        by_half_life = [2.0 ** (times % DAY / DAY / half_life) for half_life in HALF_LIVES]
        sums = np.stack([np.bincount(items, weights)[used] for weights in by_half_life])
        item_first = times[first].astype(np.float64)
        return cls(day, float(times[0]), float(times[-1]), used.astype(np.int64), sums, item_first, sums.sum(axis=1))

    def together_with(self, other: Self, num_items: int) -> Self:
        """The same day as two logs saw it. An event that both have counts once: the larger sum of an item counts."""
        items = np.union1d(self.items, other.items)
        weights = np.maximum(self._by_item(num_items), other._by_item(num_items))[:, items]
        first = np.full(num_items + 1, np.inf)
        for each in (self, other):
            first[each.items] = np.minimum(first[each.items], each.item_first)
        return replace(
            self,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            items=items,
            weights=weights,
            item_first=first[items],
            totals=np.maximum(np.maximum(self.totals, other.totals), weights.sum(axis=1)),
        )

    def _by_item(self, num_items: int) -> Floats:
        sums = np.zeros((len(HALF_LIVES), num_items + 1))
        sums[:, self.items] = self.weights
        return sums


@dataclass(frozen=True)
class ActivityCounts:
    """Everything that the activity at a later moment follows from, as of the last event."""

    weights: Floats
    """[len(HALF_LIVES), num_items + 1]: the events of each item; one counts half as much after every half-life."""
    totals: Floats
    """[len(HALF_LIVES)]: the same for all events."""
    age_days: Floats
    """[num_items + 1]: days since the item's first event; NaN if it has none."""
    last: float
    """Unix time of the last event; NaN if there is none."""

    @classmethod
    def none(cls, num_items: int) -> Self:
        size = num_items + 1
        return cls(np.zeros((len(HALF_LIVES), size)), np.zeros(len(HALF_LIVES)), np.full(size, np.nan), np.nan)

    def after_events(self, items: EventItems, times: NDArray[np.int64]) -> Self:
        """With further events, in the order of their times. None of them is before the last one."""
        if not len(items):
            return self
        pauses = np.minimum(np.diff(times, prepend=times[0]), LONGEST_PAUSE)
        pauses[0] = self._pause_until(float(times[0]))
        days = np.cumsum(pauses) / DAY
        ages = days[-1] - days
        sums: Floats = np.array([np.bincount(items, 0.5 ** (ages / each), len(self.age_days)) for each in HALF_LIVES])
        used, first = np.unique(items, return_index=True)
        return self._with(days[-1], sums, sums.sum(axis=1), used.astype(np.int64), ages[first], float(times[-1]))

    def after_day(self, day: DayCounts) -> Self:
        """With the events of a later day."""
        days = (self._pause_until(day.first) + day.last - day.first) / DAY
        to_last = 0.5 ** (day.last % DAY / DAY / _HALF_LIVES)
        sums = np.zeros_like(self.weights)
        sums[:, day.items] = day.weights * to_last[:, None]
        ages = (day.last - day.item_first) / DAY
        return self._with(days, sums, day.totals * to_last, day.items, ages, day.last)

    def at(self, moment: float) -> Activity:
        """The activity at a Unix time."""
        # All counts fade alike, so the shares stay the same without further events.
        shares = self.weights / np.maximum(self.totals, 1e-12)[:, None]
        return activity_of(shares, self.age_days + self._pause_until(moment) / DAY)

    def _pause_until(self, moment: float) -> float:
        return 0.0 if np.isnan(self.last) else min(max(0.0, moment - self.last), LONGEST_PAUSE)

    def _with(self, days: float, sums: Floats, totals: Floats, items: Indices, ages: Floats, last: float) -> Self:
        """`days` later, with these sums, and the ages [items] that the items have if they are new."""
        fade = 0.5 ** (days / _HALF_LIVES)
        age_days = self.age_days + days
        new = np.isnan(age_days[items])
        age_days[items[new]] = ages[new]
        return replace(
            self,
            weights=self.weights * fade[:, None] + sums,
            totals=self.totals * fade + totals,
            age_days=age_days,
            last=last,
        )
