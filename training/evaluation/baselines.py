"""Baselines of the evaluation: popularity, the user's own items, EASE and directed co-visitation.

Each is a `Scorer`; `training/evaluation/baseline_set.py` decides which of them a data set gets.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from training.datasets.sequences import History

LATEST_ITEMS = 10
DECAY = 0.8
EASE_DECAY = 0.9


class PopularityScorer:
    """Scores every item by its count, for all users; counts [num_items + 1], of any period, or decayed."""

    def __init__(self, counts: NDArray[np.int64] | NDArray[np.float64]) -> None:
        self.shared = counts[1:].astype(np.float32)
        """[num_items]: the scores for every user."""
        self.num_items = len(self.shared)

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        return np.tile(self.shared, (len(histories), 1))


class OwnCountsScorer:
    """How often the user had the item; all other items have the score 0, and share a mean rank."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        counts = [np.bincount(history, minlength=self.num_items + 1)[1:] for history in histories]
        return np.stack(counts).astype(np.float32)


class OwnLatestScorer:
    """The user's items, the latest first; all other items have the score 0, and share a mean rank."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        scores = np.zeros((len(histories), self.num_items), dtype=np.float32)
        for row, history in zip(scores, histories, strict=True):
            np.maximum.at(row, history - 1, np.arange(1, len(history) + 1, dtype=np.float32))
        return scores


class OwnCountsThenPopularityScorer:
    """The user's items by how often the user had them, then all other items; popularity decides between equals.

    counts [num_items + 1]: the popularity. Repeat consumption by frequency is the strongest simple baseline for next
    baskets (Li et al. 2023, "A Next Basket Recommendation Reality Check", TOIS 41(4)).
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        # Places instead of counts, so that float32 tells all of them apart.
        distinct, self._places = np.unique(counts[1:], return_inverse=True)
        self._num_places = len(distinct)
        self.num_items = len(self._places)

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        scores = np.tile(self._places.astype(np.float32), (len(histories), 1))
        for row, history in zip(scores, histories, strict=True):
            own, counts = np.unique(history - 1, return_counts=True)
            _, place = np.unique(counts * self._num_places + self._places[own], return_inverse=True)
            row[own] = self._num_places + place
        return scores


class EaseScorer:
    """EASE, fading input: sum over age a of 0.9^a * weight[item, candidate]; weights from `ease_weights`."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = torch.from_numpy(weights)
        self.num_items = len(weights) - 1

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        decayed = torch.zeros(len(histories), self.num_items + 1)
        for row, history in enumerate(histories):
            ages = torch.arange(len(history) - 1, -1, -1, dtype=torch.float32)
            decayed[row].index_put_((torch.from_numpy(history.astype(np.int64)),), EASE_DECAY**ages, accumulate=True)
        scores: NDArray[np.float32] = (decayed @ self._weights)[:, 1:].contiguous().numpy()
        return scores


class CovisitationScorer:
    """Items that followed the latest items, weighted by recency: sum over age a of 0.8^a * P(next | item).

    cooccurrence [num_items + 1, num_items + 1] comes from `directed_cooccurrence`. Its rows are scaled to sum to 1, so
    that popular items of the history do not outweigh the others. Items that never followed any of them have the score
    0, and share a mean rank.
    """

    def __init__(self, cooccurrence: sp.csr_matrix) -> None:
        followers = np.asarray(cooccurrence.sum(axis=1)).ravel()
        scale = np.divide(1.0, followers, out=np.zeros_like(followers), where=followers > 0)
        self._next_item = sp.csr_matrix(sp.diags(scale) @ cooccurrence)
        self.num_items = cooccurrence.shape[0] - 1

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        return self.of_items([history[::-1][:LATEST_ITEMS] for history in histories], DECAY)

    def of_items(self, items: list[History], decay: float) -> NDArray[np.float32]:
        """The scores [lists, num_items] of what followed the items of each list; the weights decay from the first."""
        rows = np.repeat(np.arange(len(items)), [len(of_row) for of_row in items])
        places = np.concatenate([np.arange(len(of_row)) for of_row in items])
        weights = sp.csr_matrix(
            ((decay**places).astype(np.float32), (rows, np.concatenate(items))),
            shape=(len(items), self.num_items + 1),
        )
        scores: NDArray[np.float32] = (weights @ self._next_item).toarray()[:, 1:]
        return np.ascontiguousarray(scores)


class LastBasketScorer:
    """Items that followed those of the last basket, which all count the same: sum over its items of P(next | item).

    It is given the last basket in place of the history, and uses the table of `CovisitationScorer`.
    """

    def __init__(self, covisitation: CovisitationScorer) -> None:
        self._covisitation = covisitation
        self.num_items = covisitation.num_items

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        return self._covisitation.of_items(histories, decay=1.0)
