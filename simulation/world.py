"""The hidden truth of the simulated shop: what is on sale, and what a visitor wants. Serving never sees it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.datasets.shop_catalogue import FOLLOW_CHANCES, Catalogue, build

Chances = NDArray[np.float64]
"""[items], summing to 1."""

TASTE_WEIGHTS = np.array([0.5, 0.3, 0.2])
MEMORY = 6
"""Latest items that may lead to the next one."""
LAST, EARLIER, TASTE = 0.34, 0.16, 0.34
"""The chances that the next item follows from the last one, from an earlier one, or from a taste; the rest is trend."""
PEAK_DAYS = 28.0
"""How long after its launch an item is most popular."""
LASTING, TRENDING = 0.25, 3.0
"""The popularity of an old item, and what its peak adds."""


@dataclass(frozen=True)
class Assortment:
    """How the items on sale change. Days count from the beginning of the catalogue's year."""

    first_day: int
    """When the log begins."""
    season_day: int
    """When a new collection replaces a part of the old one."""
    new: float
    """The share of all items that launch on that day."""
    replaced: float
    """The share of the other items that sell out on that day."""
    gone_daily: float
    """The share of the items that sells out every day besides."""


@dataclass
class Visitor:
    """A customer, with what only the customer knows."""

    user_id: str
    tastes: list[int]
    """Favourite categories, as many as TASTE_WEIGHTS."""
    seen: NDArray[np.bool_]
    """[items]: those that the visitor has looked at and does not want again."""
    memory: list[int] = field(default_factory=list)
    """The latest items, newest last."""

    def look_at(self, item: int) -> None:
        self.seen[item] = True
        self.memory = [*self.memory[-MEMORY + 1 :], item]


class World:
    """The catalogue by day: items launch and sell out."""

    def __init__(self, seed: int, assortment: Assortment) -> None:
        random = np.random.default_rng(seed)
        self.assortment = assortment
        self.catalogue: Catalogue = build(random)
        self.num_items = len(self.catalogue.launch_day)
        self.num_categories = len(self.catalogue.department)
        self.item_ids: list[str] = self.catalogue.items["item_id"].to_list()
        self.places = {item_id: place for place, item_id in enumerate(self.item_ids)}
        self.launch_day = self.catalogue.launch_day.copy()
        self.launch_day[random.random(self.num_items) < assortment.new] = assortment.season_day
        offered_from = np.maximum(self.launch_day, assortment.first_day)
        self.last_day = offered_from + random.exponential(1.0 / assortment.gone_daily, self.num_items)
        earlier = self.launch_day < assortment.season_day
        replaced = earlier & (random.random(self.num_items) < assortment.replaced)
        self.last_day[replaced] = np.minimum(self.last_day[replaced], assortment.season_day)
        self._today: Today | None = None

    def on_sale(self, day: float) -> NDArray[np.bool_]:
        """[items]"""
        return (self.launch_day <= day) & (day < self.last_day)

    def today(self, day: float) -> "Today":
        if self._today is None or self._today.day != int(day):
            self._today = Today(self, int(day))
        return self._today

    def wanted(self, visitor: Visitor, day: float) -> Chances:
        """The chances of each item to be what the visitor would take next."""
        today = self.today(day)
        chances = TASTE_WEIGHTS @ today.by_taste[visitor.tastes]
        chances += today.by_trend
        *earlier, last = visitor.memory or [-1]
        if last >= 0:
            chances[self.catalogue.successors[last]] += LAST * FOLLOW_CHANCES
        for item in earlier:
            chances[self.catalogue.successors[item]] += EARLIER / len(earlier) * FOLLOW_CHANCES
        chances[visitor.seen | today.not_on_sale] = 0.0
        chances /= chances.sum()
        return chances


class Today:
    """What is the same for all visitors of a day."""

    def __init__(self, world: World, day: int) -> None:
        self.day = day
        self.not_on_sale = ~world.on_sale(day)
        age = np.maximum(0.0, day - world.launch_day) / PEAK_DAYS
        trend = LASTING + TRENDING * age * np.exp(1.0 - age)
        weights = world.catalogue.appeal * trend * ~self.not_on_sale
        self.popularity: Chances = weights / weights.sum()
        """What a visitor without any preference would take: appeal, with a peak some weeks after the launch."""
        self.by_trend = (1.0 - LAST - EARLIER - TASTE) * self.popularity
        of_category = world.catalogue.category == np.arange(world.num_categories)[:, None]
        by_category = np.where(of_category, self.popularity, 0.0)
        self.by_taste: NDArray[np.float64] = TASTE * by_category / np.maximum(by_category.sum(axis=1), 1e-12)[:, None]
        """[categories, items]"""
