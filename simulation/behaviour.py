"""What visitors do: how they look at a page, what they find by themselves, and how their tastes change.

A page is looked at as in the position-based model (M. Richardson, E. Dominowska, R. Ragno, "Predicting clicks", WWW
2007): an item is clicked if the visitor looks at its position and wants it, and the two are independent.
"""

from collections.abc import Sequence

import numpy as np

from simulation.world import TASTE_WEIGHTS, Chances, Visitor, World

EXAMINED = 0.85
"""The chance to look at the next position, once for every position before it."""
ATTRACTION = 3.0
MOST_ATTRACTIVE = 0.9
"""A visitor who looks at an item clicks it with ATTRACTION times its chance to be wanted, at most with this chance."""
PURCHASE = 0.2
NEAR = 0.85
"""How much of a change of taste stays within its department."""


def click_chances(page: Sequence[int], wanted: Chances) -> Chances:
    """[positions]"""
    examined = EXAMINED ** np.arange(len(page))
    attractive = np.minimum(MOST_ATTRACTIVE, ATTRACTION * wanted[np.asarray(page, dtype=np.int64)])
    return np.asarray(examined * attractive, dtype=np.float64)


def clicked(page: Sequence[int], wanted: Chances, random: np.random.Generator) -> list[int]:
    """The items of the page that are clicked, in its order."""
    happens = random.random(len(page)) < click_chances(page, wanted)
    return [item for item, is_clicked in zip(page, happens, strict=True) if is_clicked]


def found(wanted: Chances, random: np.random.Generator) -> int:
    """The item that a visitor finds without any recommendation."""
    cumulative = np.cumsum(wanted)
    return int(np.searchsorted(cumulative, cumulative[-1] * random.random(), side="right"))


def event_kind(random: np.random.Generator) -> str:
    return "purchase" if random.random() < PURCHASE else "view"


def new_visitor(user_id: str, world: World, random: np.random.Generator) -> Visitor:
    tastes = random.choice(world.num_categories, len(TASTE_WEIGHTS), replace=False).tolist()
    return Visitor(user_id, tastes, np.zeros(world.num_items, dtype=bool))


def drift(visitor: Visitor, world: World, random: np.random.Generator) -> None:
    """Replace one taste, mostly by a category of the same department."""
    place = int(random.integers(len(visitor.tastes)))
    department = world.catalogue.department
    allowed = np.arange(world.num_categories)
    if random.random() < NEAR:
        allowed = allowed[department == department[visitor.tastes[place]]]
    visitor.tastes[place] = int(random.choice(allowed))


def follow_the_season(visitor: Visitor, changes: float, world: World, random: np.random.Generator) -> None:
    """Replace each taste with the chance `changes`, by any category."""
    for place in range(len(visitor.tastes)):
        if random.random() < changes:
            visitor.tastes[place] = int(random.integers(world.num_categories))
