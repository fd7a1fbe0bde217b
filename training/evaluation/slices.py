"""Slices of the tested users: with little data about the user or the item, and whether the user had the item before."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import Example

FEW = 5


@dataclass(frozen=True)
class Slice:
    title: str
    users: NDArray[np.bool_]
    """[examples]"""


def slices_of(examples: list[Example], counts: NDArray[np.int64]) -> dict[str, Slice]:
    """counts [num_items + 1] from `Sequences.train_counts`."""
    lengths = np.array([len(history) for history, _ in examples])
    touched = counts[np.array([target for _, target in examples])]
    return {
        "short_histories": Slice(f"users with fewer than {FEW} items before the test item", lengths < FEW),
        "cold_items": Slice(f"test items with fewer than {FEW} training interactions", touched < FEW),
        "untouched_items": Slice("test items without any training interaction", touched == 0),
    }


def new_items_of(examples: list[Example], known_items: NDArray[np.int32]) -> dict[str, Slice]:
    """known_items [events]: the items of everything that happened before the window."""
    targets = np.array([target for _, target in examples])
    return {"new_items": Slice("test items that nobody had before the cut", ~np.isin(targets, known_items))}


def repeats_of(examples: list[Example]) -> dict[str, Slice]:
    """Whether the user had the item before, for data in which seen items may come again."""
    again = np.array([bool((history == target).any()) for history, target in examples])
    return {
        "new_to_user": Slice("test items that are new to the user", ~again),
        "again": Slice("test items that the user had before", again),
    }
