"""Which of the tested users a metric is broken down by: where little is known of the user, or of the item."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.ranking import Example
from training.sequences import Sequences

FEW = 5


@dataclass(frozen=True)
class Slice:
    title: str
    users: NDArray[np.bool_]
    """[examples]"""


def slices_of(
    sequences: Sequences, users: NDArray[np.int64], examples: list[Example], counts: NDArray[np.int64]
) -> dict[str, Slice]:
    """users [examples] of whom `examples` are the test items; counts [num_items + 1] as of `train_counts`."""
    lengths = np.array([len(history) for history, _ in examples])
    touched = counts[np.array([target for _, target in examples])]
    slices = {
        "short_histories": Slice(f"users with fewer than {FEW} items before the test item", lengths < FEW),
        "cold_items": Slice(f"test items with fewer than {FEW} training interactions", touched < FEW),
        "untouched_items": Slice("test items without any training interaction", touched == 0),
    }
    if sequences.split.cuts is not None:
        came_new = sequences.times[sequences.offsets[users]] >= sequences.split.cuts[1]
        slices["known_users"] = Slice("users who were there before the cut", ~came_new)
        slices["new_users"] = Slice("users who came after the cut, on their second item", came_new)
    return slices
