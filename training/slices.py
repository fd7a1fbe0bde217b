"""Which of the evaluated users a metric is broken down by: the cold ones, and those after a global cut in time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.ranking import Example
from training.sequences import Sequences

FEW = 5
LATEST_SHARE = 0.1


@dataclass(frozen=True)
class Slice:
    title: str
    users: NDArray[np.bool_]
    """[examples]"""
    note: str = ""


def slices_of(
    sequences: Sequences, users: NDArray[np.int64], examples: list[Example], counts: NDArray[np.int64]
) -> dict[str, Slice]:
    """users [examples] of whom `examples` are the test items; counts [num_items + 1] as of `train_counts`."""
    lengths = np.array([len(history) for history, _ in examples])
    touched = counts[np.array([target for _, target in examples])]
    return {
        "short_histories": Slice(f"users with fewer than {FEW} items before the test item", lengths < FEW),
        "cold_items": Slice(f"test items with fewer than {FEW} training interactions", touched < FEW),
        "after_global_cut": _after_global_cut(sequences, users),
    }


def _after_global_cut(sequences: Sequences, users: NDArray[np.int64]) -> Slice:
    """Users whose test item is among the latest of the whole log.

    A global temporal split for a model that is not trained anew: it has seen none of these items for these users, but
    what others did after the cut is among what it was trained on, and the note says how much of that there is.
    """
    cut = int(np.quantile(sequences.times, 1.0 - LATEST_SHARE))
    of_test = sequences.times[sequences.offsets[users + 1] - 1]
    later = sequences.train_share_after(cut)
    note = (
        f"The cut is at timestamp {cut:,}, after which the latest {LATEST_SHARE:.0%} of all interactions happened. The "
        f"model was trained before this split was made: {later:.1%} of its training interactions are other users' (or "
        "these users' earlier ones) from after the cut, none of them a test item of its user."
    )
    return Slice("users whose test item comes after a global cut in time", np.asarray(of_test > cut), note)
