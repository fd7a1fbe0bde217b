"""The generated shop: one year of interactions of customers with changing tastes, reproducible by seed.

What a model can learn: an item is followed by the next part of its kit or series, possibly some steps later; customers
have a few favourite categories that slowly change; items launch, trend and fade, and a few are far more popular than
the rest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import JsonValue

from training.datasets import shop_catalogue
from training.datasets.bad_rows import BadRows
from training.datasets.phases import phase
from training.datasets.shop_catalogue import DAYS, FOLLOW_CHANCES, YEAR, Catalogue
from training.datasets.tables import LogColumns, RawItems, RawLog, RawTables

USERS = 4_000
WEEKS = 53

_TASTES = 3
_TASTE_WEIGHTS = np.array([0.5, 0.3, 0.2])
_MEAN_EVENTS = 49
_EVENTS = (8, 240)
_SESSION_ENDS = 0.2
_TASTE_CHANGES = 0.06
"""Per session: the probability that one favourite category changes, mostly within its department."""

# The probabilities that the next item follows from the last one, an earlier one, or a taste; the rest is popularity.
_LAST, _EARLIER, _TASTE = 0.34, 0.16, 0.34
_MEMORY = 6
_TRIES = 6

_EVENT_NAMES = ("view", "add_to_cart", "purchase")
_PURCHASE, _CART = 0.2, 0.05
_LOOKED_FIRST = 0.25
"""The share of purchases that follow a view of the same item."""

_START = int(datetime(YEAR, 1, 1, tzinfo=UTC).timestamp())
_DAY = 86_400
_HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 13, 16, 17, 15, 9, 4], dtype=np.float64)


class Shop:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fingerprint(self) -> dict[str, JsonValue]:
        return {"dataset": "shop", "seed": self._seed, "columns": None}

    @contextmanager
    def open(self, bad_rows: BadRows) -> Iterator[RawTables]:  # noqa: ARG002 - the shop has none
        with phase("generating the shop"):
            rng = np.random.default_rng(self._seed)
            catalogue = shop_catalogue.build(rng)
            rows = _Shoppers(catalogue, rng).shop()
        columns = LogColumns("user_id", "item_id", "timestamp")
        yield RawTables(RawLog(Path("shop"), columns, rows.lazy(), lambda: iter(())), RawItems(catalogue.items))


@dataclass
class _Shoppers:
    """Simulates all customers at once: a loop over steps, with arrays over customers."""

    catalogue: Catalogue
    rng: np.random.Generator

    def __post_init__(self) -> None:
        catalogue = self.catalogue
        categories = np.arange(len(catalogue.department) + 1)
        self._category_starts = np.searchsorted(catalogue.category, categories)
        # Popularity by week: none before the launch, a peak some weeks after it, then a decay to a constant level.
        age = (np.arange(WEEKS)[:, None] * 7.0 + 3.5 - catalogue.launch_day[None, :]) / 7.0
        trend = np.where(age < 0, 0.0, 0.25 + 3.0 * (age / 4.0) * np.exp(1.0 - age / 4.0) * (age > 0))
        weights = catalogue.appeal * trend
        # One array of cumulative sums over all weeks, so that sampling is one binary search.
        self._cumulative = np.concatenate([[0.0], np.cumsum(weights)])

    def shop(self) -> pl.DataFrame:
        rng, successors = self.rng, self.catalogue.successors
        lengths = np.clip(rng.lognormal(np.log(_MEAN_EVENTS) - 0.32, 0.8, USERS), *_EVENTS).astype(np.int64)
        starts, times = self._times(lengths)
        tastes = self._first_tastes()
        seen = np.zeros((USERS, len(successors)), dtype=bool)
        items = np.full((USERS, lengths.max()), -1, dtype=np.int64)
        for step in range(lengths.max()):
            active = np.flatnonzero(lengths > step)
            self._drift(tastes, active[starts[active, step]])
            undecided = active
            for _ in range(_TRIES):
                chosen = self._choose(undecided, step, items, times[undecided, step], tastes)
                fresh = (chosen >= 0) & ~seen[undecided, chosen]
                items[undecided[fresh], step] = chosen[fresh]
                seen[undecided[fresh], chosen[fresh]] = True
                undecided = undecided[~fresh]
        # A customer without a new item after all tries skips the step.
        people, steps = np.nonzero(items >= 0)
        return self._log(people, items[people, steps], times[people, steps])

    def _times(self, lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """The session starts and the timestamps of all steps, [users, steps] each."""
        rng, steps = self.rng, int(lengths.max())
        starts = rng.random((USERS, steps)) < _SESSION_ENDS
        starts[:, 0] = True
        session = np.cumsum(starts, axis=1) - 1
        sessions = session[np.arange(USERS), lengths - 1] + 1
        joined = rng.uniform(0, 0.75, USERS) * (rng.random(USERS) < 0.6)
        position = joined[:, None] + (1 - joined[:, None]) * rng.random((USERS, steps))
        position[np.arange(steps) >= sessions[:, None]] = 1.0
        day = np.floor(np.sort(position, axis=1) * (DAYS - 1)).astype(np.int64)
        hour = rng.choice(24, (USERS, steps), p=_HOURS / _HOURS.sum())
        opening = np.sort(day * _DAY + hour * 3_600 + rng.integers(0, 3_600, (USERS, steps)), axis=1)
        # Minutes between steps. Sessions of one evening may overlap, so the times are made strictly increasing.
        pause = np.where(starts, 0.0, rng.lognormal(np.log(100), 0.9, (USERS, steps)))
        elapsed = np.cumsum(pause, axis=1)
        since_opening = elapsed - np.maximum.accumulate(np.where(starts, elapsed, 0.0), axis=1)
        moments = np.take_along_axis(opening, session, axis=1) + since_opening.astype(np.int64)
        offsets = np.arange(steps)
        moving_on = np.maximum.accumulate(moments - offsets, axis=1) + offsets
        return starts, _START + np.minimum(moving_on, DAYS * _DAY - steps + offsets)

    def _first_tastes(self) -> npt.NDArray[np.int64]:
        categories = len(self.catalogue.department)
        return np.stack([self.rng.choice(categories, _TASTES, replace=False) for _ in range(USERS)])

    def _drift(self, tastes: npt.NDArray[np.int64], people: npt.NDArray[np.int64]) -> None:
        rng, department = self.rng, self.catalogue.department
        changing = people[rng.random(len(people)) < _TASTE_CHANGES]
        place = rng.integers(0, _TASTES, len(changing))
        new = rng.integers(0, len(department), len(changing))
        near = department[new] == department[tastes[changing, place]]
        accepted = near | (rng.random(len(changing)) < 0.15)
        tastes[changing[accepted], place[accepted]] = new[accepted]

    def _choose(
        self,
        people: npt.NDArray[np.int64],
        step: int,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        tastes: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        """[people]: the next item of each, or -1. It may be an item that the customer has seen."""
        rng, catalogue = self.rng, self.catalogue
        decision = rng.random(len(people))
        back = np.where(decision < _LAST, 1, rng.integers(2, _MEMORY + 1, len(people)))
        before = np.where(step >= back, items[people, np.maximum(step - back, 0)], -1)
        follower = catalogue.successors[before, rng.choice(len(FOLLOW_CHANCES), len(people), p=FOLLOW_CHANCES)]
        on_sale = catalogue.launch_day[follower] * _DAY <= times - _START
        follows = (decision < _LAST + _EARLIER) & (before >= 0) & on_sale
        taste = tastes[people, rng.choice(_TASTES, len(people), p=_TASTE_WEIGHTS)]
        whole_shop = decision >= _LAST + _EARLIER + _TASTE
        first = np.where(whole_shop, 0, self._category_starts[taste])
        end = np.where(whole_shop, len(catalogue.category), self._category_starts[taste + 1])
        return np.where(follows, follower, self._popular(first, end, (times - _START) // (7 * _DAY)))

    def _popular(
        self, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64], week: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """One item from [first, end) each, by popularity in that week; -1 if none is on sale."""
        row = week * len(self.catalogue.category)
        low, high = self._cumulative[row + first], self._cumulative[row + end]
        drawn = low + (high - low) * self.rng.random(len(week))
        chosen = np.searchsorted(self._cumulative, drawn, side="right") - 1 - row
        return np.where(high > low, np.clip(chosen, first, end - 1), -1)

    def _log(
        self, people: npt.NDArray[np.int64], items: npt.NDArray[np.int64], times: npt.NDArray[np.int64]
    ) -> pl.DataFrame:
        draw, hesitation = self.rng.random(len(people)), self.rng.random(len(people))
        event = np.where(draw < _PURCHASE, _EVENT_NAMES.index("purchase"), 0)
        event[(draw >= _PURCHASE) & (draw < _PURCHASE + _CART)] = _EVENT_NAMES.index("add_to_cart")
        steps = pl.DataFrame({"person": people, "item": items, "timestamp": times, "event": event})
        views = steps.filter((event == _EVENT_NAMES.index("purchase")) & (hesitation < _LOOKED_FIRST))
        users = pl.Series([f"U{number:04}" for number in range(1, USERS + 1)])
        return (
            # A view has the timestamp of its purchase and precedes it in the order of rows.
            pl.concat([views.with_columns(event=pl.lit(0, pl.Int64)), steps]).select(
                pl.lit(users).gather(pl.col("person")).alias("user_id"),
                pl.lit(self.catalogue.items["item_id"]).gather(pl.col("item")).alias("item_id"),
                "timestamp",
                pl.lit(pl.Series(_EVENT_NAMES)).gather(pl.col("event")).alias("event"),
                pl.lit(False).alias("suspect"),
            )
        )
