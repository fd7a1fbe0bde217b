"""What is used in each category lately: the items that lead there, and the share of each item."""

import numpy as np
from numpy.typing import NDArray

from recsys.model.item_activity import Activity
from recsys.model.neighbours import Indices
from recsys.model.sources import MAX_PER_SOURCE

MAX_CATEGORIES = 20
"""The most frequent categories of a history that count."""


class CategoryTrends:
    def __init__(self, category: NDArray[np.int32], activity: Activity) -> None:
        """category [num_items + 1]: 0 for items without one."""
        self._category = category
        shares = _recent_shares(activity)
        order = np.lexsort((-shares, category))
        order = order[(category[order] > 0) & (shares[order] > 0)]
        starts = np.searchsorted(category[order], np.arange(category.max() + 2))
        kept = np.arange(len(order)) - starts[category[order]] < MAX_PER_SOURCE
        self._items: Indices = order[kept]
        self._shares = shares[self._items]
        self._starts = np.searchsorted(category[self._items], np.arange(category.max() + 2))

    def find(self, history: Indices, count: int) -> Indices:
        """By the product of an item's share of recent events and its category's share of the history, best first."""
        categories, times = np.unique(self._category[history], return_counts=True)
        most_frequent = np.argsort(-times * (categories > 0), kind="stable")[:MAX_CATEGORIES]
        rows = [
            (times[place], slice(self._starts[categories[place]], self._starts[categories[place] + 1]))
            for place in most_frequent
        ]
        items = np.concatenate([self._items[row] for _, row in rows])
        scores = np.concatenate([weight * self._shares[row] for weight, row in rows])
        best_first: Indices = items[np.argsort(-scores, kind="stable")[:count]]
        return best_first


def shares_within(category: NDArray[np.int32], activity: Activity) -> NDArray[np.float32]:
    """[num_items + 1]: each item's share of the recent events with its category; 0 without a category or events."""
    shares = _recent_shares(activity)
    of_category = np.bincount(category, shares)[category]
    known = (category > 0) & (of_category > 0)
    return np.divide(shares, of_category, out=np.zeros(len(shares)), where=known).astype(np.float32)


def _recent_shares(activity: Activity) -> NDArray[np.float32]:
    """[num_items + 1]: of all events, with the shortest half-life, in an arbitrary unit; 0 if the log has no times."""
    shares: NDArray[np.float32] = np.expm1(np.nan_to_num(activity[:, 0]))
    return shares
