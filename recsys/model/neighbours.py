"""A sparse item-item matrix with a bounded number of neighbours per item, and the one look-up that serving needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Row i holds the strongest entries of item_index i; row 0, the padding, is empty.

    In compressed sparse rows: those of row i stand in `items` and `weights` from offsets[i] to offsets[i + 1].
    """

    offsets: Indices
    """[num_items + 2]"""
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    def between(self, rows: Indices, column_of: NDArray[np.int32], num_columns: int) -> NDArray[np.float32]:
        """rows [rows] as item indices -> [rows, num_columns], 0 where there is no entry.

        column_of [num_items + 1] says in which column an item's entries belong, -1 where they are not asked for.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = np.cumsum(lengths)
        place = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
        columns = column_of[self.items[place]]
        wanted = np.flatnonzero(columns >= 0)
        found = np.zeros((len(rows), num_columns), dtype=np.float32)
        row = np.repeat(np.arange(len(rows)), lengths)
        found[row[wanted], columns[wanted]] = self.weights[place[wanted]]
        return found
