"""The activity of items with the events since a release's log ended.

A release has the counts of its log in two parts: everything before the UTC day of the last event, and that day. Live
events count from that day on. A live event of that day may be in the log, too, which is why the day is apart: of each
item, the larger sum counts.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.activity import DayActivity
from recsys.model.activity_counts import ActivityCounts, DayCounts, Floats
from recsys.model.item_activity import Activity
from recsys.model.vocabulary import Vocabulary

Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class ActivityBase:
    """The counts of a release's log."""

    before: ActivityCounts
    """Of all events before the last day."""
    last_day: DayCounts

    def activity(self, live: Iterable[DayCounts], moment: float) -> Activity:
        """With live events of the last day and of later ones, ascending, at a Unix time."""
        days = {day.day: day for day in live}
        last = self.last_day
        if last.day in days:
            last = last.together_with(days.pop(last.day), len(self.before.age_days) - 1)
        counts = self.before.after_day(last)
        for day in days.values():
            counts = counts.after_day(day)
        return counts.at(moment)

    def tensors(self) -> Tensors:
        """By names that contain a dot."""
        parts = (("before", self.before), ("last_day", self.last_day))
        return {
            f"{name}.{field.name}": np.ascontiguousarray(np.atleast_1d(getattr(part, field.name)))
            for name, part in parts
            for field in fields(part)
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self | None:
        """None if there are none of them. Raises KeyError if some are missing."""
        if "before.last" not in tensors:
            return None

        def part(name: str, kind: type[Any]) -> Any:
            values = {field.name: (field.type, tensors[f"{name}.{field.name}"]) for field in fields(kind)}
            return kind(
                **{key: value.item() if type_ in (int, float) else value for key, (type_, value) in values.items()}
            )

        return cls(part("before", ActivityCounts), part("last_day", DayCounts))


@dataclass(frozen=True)
class LiveDay:
    """What the feature store counted in a day, in little memory."""

    day: int
    events: int
    first: int
    last: int
    item_ids: Sequence[str]
    item_first: Floats
    weights: Floats
    totals: Floats

    @classmethod
    def of(cls, activity: DayActivity) -> Self:
        return cls(
            activity.day,
            activity.events,
            activity.first,
            activity.last,
            [sys.intern(item_id) for item_id in activity.item_ids],  # most items are in several days
            np.array(activity.item_first, dtype=np.float64),
            np.array(activity.weights, dtype=np.float64),
            np.array(activity.totals, dtype=np.float64),
        )

    def of_items(self, vocabulary: Vocabulary) -> DayCounts:
        """The same for the items of a release. Events of other items do not count, as in training."""
        indices = vocabulary.indices_or_none(self.item_ids)
        known = np.array([index is not None for index in indices], dtype=bool)
        items = np.array([index for index in indices if index is not None], dtype=np.int64)
        totals = self.totals - self.weights[:, ~known].sum(axis=1)
        return DayCounts(self.day, self.first, self.last, items, self.weights[:, known], self.item_first[known], totals)
