"""Visitors of the shop, when they come, and what they do before anything is recommended to them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulation.behaviour import drift, event_kind, follow_the_season, found, new_visitor
from simulation.world import Visitor, World

DAY = 86_400.0
STEP_SECONDS = 60.0
"""Between two pages of a visit."""


class Habits(NamedTuple):
    visits_per_day: float
    """Of all visitors together."""
    mean_steps: float
    """Items or pages that a visitor looks at in a visit."""
    with_pages: float
    """The share of the visits in which recommendations are looked at. In the others, items are found without them."""
    drift: float
    """The chance that a taste has changed since the last visit."""
    season_changes: float
    """The chance of each taste to change with the season."""


class Visit(NamedTuple):
    visitor: Visitor
    day: float
    """With its fraction, since the beginning of the catalogue's year."""
    steps: int
    with_pages: bool
    random: np.random.Generator
    """Of this visit only, so the order in which concurrent visits go on changes nothing in them."""

    def day_of(self, step: int) -> float:
        return self.day + step * STEP_SECONDS / DAY


class Deed(NamedTuple):
    """What a visitor did: an event to be."""

    user_id: str
    item: int
    day: float
    kind: str
    recommendation_id: str | None = None


@dataclass
class Population:
    """Visitors who are all served in the same way."""

    world: World
    visitors: list[Visitor]
    habits: Habits
    random: np.random.Generator

    @classmethod
    def of(cls, world: World, names: str, number: int, habits: Habits, random: np.random.Generator) -> "Population":
        """names: what the user ids begin with."""
        visitors = [new_visitor(f"{names}{place:05}", world, random) for place in range(1, number + 1)]
        return cls(world, visitors, habits, random)

    def copy(self) -> "Population":
        """The same visitors in the same world, who make the same choices as long as nothing else differs."""
        return Population(self.world, copy.deepcopy(self.visitors), self.habits, copy.deepcopy(self.random))

    def visits_on(self, day: int) -> Iterator[Visit]:
        """In order of time. Visitors change their tastes between visits, not within one."""
        for time in np.sort(self.random.random(self.random.poisson(self.habits.visits_per_day))):
            visitor = self.visitors[int(self.random.integers(len(self.visitors)))]
            if self.random.random() < self.habits.drift:
                drift(visitor, self.world, self.random)
            steps = int(self.random.geometric(1.0 / self.habits.mean_steps))
            with_pages = bool(self.random.random() < self.habits.with_pages)
            (own,) = self.random.spawn(1)
            yield Visit(visitor, day + float(time), steps, with_pages, own)

    def begin_season(self) -> None:
        for visitor in self.visitors:
            follow_the_season(visitor, self.habits.season_changes, self.world, self.random)

    def browse(self, day: int) -> Iterator[Deed]:
        """What they do on a day on which no page has recommendations."""
        for visit in self.visits_on(day):
            yield from deeds_without_pages(visit, self.world)


def deeds_without_pages(visit: Visit, world: World) -> Iterator[Deed]:
    """Items that the visitor finds, one per step."""
    for step in range(visit.steps):
        item = found(world.wanted(visit.visitor, visit.day_of(step)), visit.random)
        yield deed(visit, step, item)


def deed(visit: Visit, step: int, item: int, recommendation_id: str | None = None) -> Deed:
    """The visitor looks at the item, and may buy it."""
    visit.visitor.look_at(item)
    kind = event_kind(visit.random)
    return Deed(visit.visitor.user_id, item, visit.day_of(step), kind, recommendation_id)
