"""Baselines of the evaluation: popularity, EASE and directed co-visitation."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from training.datasets.sequences import History

LATEST_ITEMS = 10
DECAY = 0.8
EASE_DECAY = 0.9


class PopularityScorer:
    """Scores every item by its training count, for all users; counts [num_items + 1] from `Sequences.train_counts`."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._scores = counts[1:].astype(np.float32)
        self.num_items = len(self._scores)

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        return np.tile(self._scores, (len(histories), 1))


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
        latest = [history[::-1][:LATEST_ITEMS] for history in histories]
        rows = np.repeat(np.arange(len(latest)), [len(items) for items in latest])
        ages = np.concatenate([np.arange(len(items)) for items in latest])
        weights = sp.csr_matrix(
            ((DECAY**ages).astype(np.float32), (rows, np.concatenate(latest))),
            shape=(len(latest), self.num_items + 1),
        )
        scores: NDArray[np.float32] = (weights @ self._next_item).toarray()[:, 1:]
        return np.ascontiguousarray(scores)
