"""A sparse item-item matrix with a bounded number of neighbours per item, with the lookup that serving needs."""

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

    def lookup(self, rows: Indices, column_of: NDArray[np.int32], num_columns: int) -> NDArray[np.float32]:
        """The entries of `rows` [rows] (item indices) as a matrix [rows, num_columns], 0 if there is no entry.

        column_of [num_items + 1] maps an item to its column; -1 for items to leave out, including the padding item.
        """
        columns = column_of.take(self.items.take(rows, axis=0)).ravel()
        wanted = np.flatnonzero(columns >= 0)
        row, place = np.divmod(wanted, self.items.shape[1])
        found = np.zeros((len(rows), num_columns), dtype=np.float32)
        found[row, columns[wanted]] = self.weights[rows[row], place]
        return found
