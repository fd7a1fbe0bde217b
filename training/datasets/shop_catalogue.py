"""The generated shop's catalogue: items with titles and prices, and their likely successors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from training.datasets.shop_words import BRANDS, KITS, SERIES
from training.datasets.tables import ITEM_SCHEMA

YEAR = 2025
DAYS = 365
SUCCESSORS = 4
"""The number of successors of an item, in descending order of probability; see FOLLOW_CHANCES."""
FOLLOW_CHANCES = np.array([0.42, 0.26, 0.18, 0.14])

_INSTANCES_PER_LINE = 4
_VOLUMES = (3, 7)


@dataclass(frozen=True)
class Catalogue:
    items: pl.DataFrame
    """Columns of ITEM_SCHEMA."""
    category: npt.NDArray[np.int64]
    """[items], ascending, so the items of a category are contiguous."""
    department: npt.NDArray[np.int64]
    """[categories]"""
    successors: npt.NDArray[np.int64]
    """[items, SUCCESSORS] item positions."""
    launch_day: npt.NDArray[np.float64]
    """[items], day of the year; negative for items that launched before."""
    appeal: npt.NDArray[np.float64]
    """[items], a long-tailed weight, highest for the first part of a kit or series."""


@dataclass(frozen=True)
class _Draft:
    title: str
    department: str
    category: str
    price: float
    launch_day: float
    group: int
    """The kit or series of the item."""
    place: int
    """The position in the group, from 0."""


def build(rng: np.random.Generator) -> Catalogue:
    drafts = [*_kit_drafts(rng), *_series_drafts(rng)]
    # Sorted by category, so that a category is one range of positions. Shuffled first, so ids carry no information.
    order = sorted(
        rng.permutation(len(drafts)), key=lambda number: (drafts[number].department, drafts[number].category)
    )
    drafts = [drafts[number] for number in order]
    names = sorted({(draft.department, draft.category) for draft in drafts})
    departments = sorted({department for department, _ in names})
    group_appeal = _long_tail(rng, 1 + max(draft.group for draft in drafts))
    ids = rng.permutation(np.arange(10_000, 10_000 + 4 * len(drafts)))[: len(drafts)]
    return Catalogue(
        items=pl.DataFrame(
            {
                "item_id": [f"P{number}" for number in ids],
                "title": [draft.title for draft in drafts],
                "categories": [[draft.department, draft.category] for draft in drafts],
                "year": [YEAR + int(np.floor(draft.launch_day / DAYS)) for draft in drafts],
                "price": [draft.price for draft in drafts],
            },
            schema=ITEM_SCHEMA,
        ),
        category=np.array([names.index((draft.department, draft.category)) for draft in drafts]),
        department=np.array([departments.index(department) for department, _ in names]),
        successors=_successors(rng, drafts),
        launch_day=np.array([draft.launch_day for draft in drafts]),
        appeal=np.array([group_appeal[draft.group] * 0.75**draft.place for draft in drafts]),
    )


def _kit_drafts(rng: np.random.Generator) -> list[_Draft]:
    drafts: list[_Draft] = []
    group = 0
    for kit in KITS:
        for line in kit.lines:
            for brand in rng.choice(len(BRANDS), _INSTANCES_PER_LINE, replace=False):
                model, launch, level = int(rng.integers(2, 10)), _launch(rng), float(rng.lognormal(0, 0.25))
                for place, part in enumerate(kit.parts):
                    title = f"{BRANDS[brand]} {line} {model} {part.noun}"
                    price = _shelf_price(part.price * level)
                    drafts.append(_Draft(title, kit.department, part.category, price, launch, group, place))
                group += 1
    return drafts


def _series_drafts(rng: np.random.Generator) -> list[_Draft]:
    drafts: list[_Draft] = []
    group = sum(len(kit.lines) for kit in KITS) * _INSTANCES_PER_LINE
    for series in SERIES:
        for opening in series.openings:
            for ending in series.endings:
                newest, months_apart = _launch(rng), float(rng.uniform(1, 8))
                volumes = int(rng.integers(*_VOLUMES))
                for place in range(volumes):
                    title = f"{opening} {ending}, {series.volume} {place + 1}"
                    price = _shelf_price(series.price * float(rng.lognormal(0, 0.08)))
                    day = newest - (volumes - 1 - place) * months_apart * 30
                    drafts.append(_Draft(title, series.department, series.category, price, day, group, place))
                group += 1
    return drafts


def _launch(rng: np.random.Generator) -> float:
    """A third of the items launch within the year, the others before it."""
    return float(rng.uniform(0, DAYS - 45)) if rng.random() < 1 / 3 else float(-rng.exponential(2.5 * DAYS))


def _shelf_price(price: float) -> float:
    return max(1.0, float(np.round(price))) - 0.01


def _long_tail(rng: np.random.Generator, number: int) -> npt.NDArray[np.float64]:
    """Zipf-like weights in random order."""
    weights = 1.0 / (np.arange(1, number + 1) + 4.0) ** 1.1
    return rng.permutation(weights)


def _successors(rng: np.random.Generator, drafts: list[_Draft]) -> npt.NDArray[np.int64]:
    """First the next parts of the group, then the first part of a related group, then items of the same category."""
    groups: dict[int, list[int]] = {}
    alike: dict[tuple[str, str], list[int]] = {}
    for number, draft in sorted(enumerate(drafts), key=lambda entry: entry[1].place):
        groups.setdefault(draft.group, []).append(number)
        alike.setdefault((draft.department, draft.category), []).append(number)
    beginnings: dict[str, list[int]] = {}
    for members in groups.values():
        beginnings.setdefault(drafts[members[0]].department, []).append(members[0])
    related = {group: int(rng.choice(beginnings[drafts[members[0]].department])) for group, members in groups.items()}
    successors = np.empty((len(drafts), SUCCESSORS), dtype=np.int64)
    for number, draft in enumerate(drafts):
        later = groups[draft.group][draft.place + 1 : draft.place + 3]
        candidates = [*later, related[draft.group], *rng.permutation(alike[draft.department, draft.category])]
        chosen = [other for other in dict.fromkeys(map(int, candidates)) if other != number]
        successors[number] = chosen[:SUCCESSORS]
    return successors
