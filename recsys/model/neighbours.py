"""A sparse item-item matrix with a bounded number of neighbours per item."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Row i contains the strongest entries of item_index i. Shorter rows are filled with the padding item."""

    items: NDArray[np.int32]
    """[num_items + 1, neighbours]: the columns of the entries."""
    weights: NDArray[np.float32]
    """[num_items + 1, neighbours]"""
