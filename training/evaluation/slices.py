"""Slices of the tested users, for whom the user or the item has little data."""

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
