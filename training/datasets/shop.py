"""The generated shop: one year of interactions of customers with changing tastes, reproducible by seed.

What a model can learn: an item is followed by the next part of its kit or series, possibly some steps later; customers
have a few favourite categories that slowly change; items launch, trend and fade, and a few are far more popular than
the rest. The kind of an event depends on why: customers buy what they came for, and view what is merely popular. Now
and then they say that an item of a department that is not theirs does not interest them.
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

_EVENT_NAMES = ("view", "add_to_cart", "purchase", "not_interested")
_VIEWED, _IN_CART, _PURCHASED, _REFUSED = range(4)
_FOLLOWS, _SUITS, _IS_POPULAR = range(3)
"""Why an item was chosen."""
_PURCHASE = np.array([0.3, 0.2, 0.05])
"""The probability of a purchase, by the reason of the choice."""
_CART = 0.05
_REFUSES = 0.02
"""Per step: the probability that the customer is shown a popular item that may be refused."""
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
        reasons = np.zeros_like(items)
        refused = np.full_like(items, -1)
        # Drawn apart, so that the steps of a seed do not depend on what is refused.
        (refusals,) = rng.spawn(1)
        for step in range(lengths.max()):
            active = np.flatnonzero(lengths > step)
            self._drift(tastes, active[starts[active, step]])
            undecided = active
            for _ in range(_TRIES):
                chosen, reason = self._choose(undecided, step, items, times[undecided, step], tastes)
                fresh = (chosen >= 0) & ~seen[undecided, chosen]
                items[undecided[fresh], step] = chosen[fresh]
                reasons[undecided[fresh], step] = reason[fresh]
                seen[undecided[fresh], chosen[fresh]] = True
                undecided = undecided[~fresh]
            shown_to = active[refusals.random(len(active)) < _REFUSES]
            refused[shown_to, step] = self._of_no_interest(shown_to, times[shown_to, step], tastes, refusals)
        # A customer without a new item after all tries skips the step.
        people, steps = np.nonzero(items >= 0)
        log = self._log(people, items[people, steps], times[people, steps], reasons[people, steps])
        people, steps = np.nonzero((refused >= 0) & ~seen[np.arange(USERS)[:, None], refused])
        refused_events = np.full(len(people), _REFUSED)
        return pl.concat([log, self._rows(people, refused[people, steps], times[people, steps], refused_events)])

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
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """[people]: the next item of each, or -1, and why. It may be an item that the customer has seen."""
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
        popular = self._popular(first, end, (times - _START) // (7 * _DAY), rng)
        reason = np.where(follows, _FOLLOWS, np.where(whole_shop, _IS_POPULAR, _SUITS))
        return np.where(follows, follower, popular), reason

    def _of_no_interest(
        self,
        people: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        tastes: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> npt.NDArray[np.int64]:
        """[people]: a popular item of a department without a taste of the customer, or -1."""
        catalogue = self.catalogue
        whole_shop = np.full(len(people), len(catalogue.category))
        shown = self._popular(np.zeros_like(whole_shop), whole_shop, (times - _START) // (7 * _DAY), rng)
        suits = catalogue.department[tastes[people]] == catalogue.department[catalogue.category[shown]][:, None]
        return np.where(suits.any(axis=1), -1, shown)

    def _popular(
        self,
        first: npt.NDArray[np.int64],
        end: npt.NDArray[np.int64],
        week: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> npt.NDArray[np.int64]:
        """One item from [first, end) each, by popularity in that week; -1 if none is on sale."""
        row = week * len(self.catalogue.category)
        low, high = self._cumulative[row + first], self._cumulative[row + end]
        drawn = low + (high - low) * rng.random(len(week))
        chosen = np.searchsorted(self._cumulative, drawn, side="right") - 1 - row
        return np.where(high > low, np.clip(chosen, first, end - 1), -1)

    def _log(
        self,
        people: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        reasons: npt.NDArray[np.int64],
    ) -> pl.DataFrame:
        draw, hesitation = self.rng.random(len(people)), self.rng.random(len(people))
        purchase = _PURCHASE[reasons]
        event = np.where(draw < purchase, _PURCHASED, _VIEWED)
        event[(draw >= purchase) & (draw < purchase + _CART)] = _IN_CART
        first = (event == _PURCHASED) & (hesitation < _LOOKED_FIRST)
        # A view has the timestamp of its purchase and precedes it in the order of rows.
        views = self._rows(people[first], items[first], times[first], np.full(int(first.sum()), _VIEWED))
        return pl.concat([views, self._rows(people, items, times, event)])

    def _rows(
        self,
        people: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        events: npt.NDArray[np.int64],
    ) -> pl.DataFrame:
        users = pl.Series([f"U{number:04}" for number in range(1, USERS + 1)])
        return pl.DataFrame(
            {
                "user_id": users.gather(people),
                "item_id": self.catalogue.items["item_id"].gather(items),
                "timestamp": times,
                "event": pl.Series(_EVENT_NAMES).gather(events),
                "suspect": np.zeros(len(people), dtype=np.bool_),
            }
        )
