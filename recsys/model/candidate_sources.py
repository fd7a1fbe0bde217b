"""Sources of candidates besides the towers: the user's own items, what followed the latest ones, and what is trending.

The towers generalise, so they lose what counting knows: that an item is bought again every week, or that all of last
week's visitors wanted it. How many candidates each source contributes is chosen in training and part of the release.
"""

from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.base import MAX_HISTORY
from recsys.model import ranking_kernels as kernels
from recsys.model.category_trends import CategoryTrends
from recsys.model.item_activity import Activity, most_active
from recsys.model.neighbours import Indices, Neighbours
from recsys.model.ranking_tables import RankingTables
from recsys.model.sources import MAX_PER_SOURCE, Source

FOLLOWED_ITEMS = 10
FOLLOWED_DECAY = np.float32(0.9)


class CandidateSources:
    """Of one release."""

    def __init__(self, tables: RankingTables, *, exclude_seen: bool) -> None:
        self._followers = tables.followers
        self._category = tables.category
        self._set_activity(tables.activity)
        self._counts = {source: int(count) for source, count in zip(Source, tables.sources, strict=True) if count}
        self._exclude_seen = exclude_seen

    def at(self, activity: Activity) -> Self:
        """The sources at another moment than the end of the log."""
        copied = copy(self)
        copied._set_activity(activity)
        return copied

    def find(self, history: Indices, seen: NDArray[np.integer[Any]] | None = None) -> dict[Source, Indices]:
        """history [1 to MAX_HISTORY steps] oldest first -> the item indices of each source, best first, no repeats.

        If the release excludes seen items, those in `seen` (by default the history) are left out, and others take their
        places.
        """
        seen = np.unique(history if seen is None else seen) if self._exclude_seen else history[:0]
        return {
            source: _without(seen, self._of(source, history, count + len(seen)))[:count]
            for source, count in self._counts.items()
        }

    def _of(self, source: Source, history: Indices, count: int) -> Indices:
        match source:
            case Source.OWN:
                return own_items(history)
            case Source.FOLLOWING:
                return following(self._followers, history, count)
            case Source.TRENDING:
                return self._trending
            case Source.TRENDING_IN_CATEGORIES:
                return self._in_categories.find(history, count)

    def _set_activity(self, activity: Activity) -> None:
        self._trending = most_active(activity, MAX_PER_SOURCE + MAX_HISTORY)
        self._in_categories = CategoryTrends(self._category, activity)


def own_items(history: Indices) -> Indices:
    latest_first = history[::-1]
    items, age, count = np.unique(latest_first, return_index=True, return_counts=True)
    own: Indices = items[np.lexsort((age, -count))]
    return own


def following(followers: Neighbours, history: Indices, count: int) -> Indices:
    latest = np.ascontiguousarray(history[::-1][:FOLLOWED_ITEMS])
    found, sums = kernels.sums_by_item(latest, followers.items, followers.weights, FOLLOWED_DECAY)
    if len(found) > count:
        highest = np.argpartition(-sums, count - 1)[:count]
        found, sums = found[highest], sums[highest]
    best_first: Indices = found[np.lexsort((found, -sums))]
    return best_first


def _without(seen: NDArray[np.integer[Any]], candidates: Indices) -> Indices:
    """The candidates that are not in `seen`, which is sorted."""
    if not len(seen):
        return candidates
    place = np.minimum(np.searchsorted(seen, candidates), len(seen) - 1)
    others: Indices = candidates[seen[place] != candidates]
    return others
