"""Exact retrieval: the nearest items of histories, without the approximation of an index."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.exact_search import nearest_items, searchable_items
from recsys.model.two_tower import TwoTower
from training.datasets.sequences import History
from training.models.histories import encode_histories, mask_seen_items


class Retrieved(NamedTuple):
    query_embedding: NDArray[np.float32]
    """[embedding_dim]"""
    candidates: NDArray[np.int64]
    """[at most num_candidates] item indices, best first."""


class ExactRetrieval:
    def __init__(self, model: TwoTower, *, exclude_seen: bool, num_candidates: int = NUM_CANDIDATES) -> None:
        self._model = model.eval()
        with torch.inference_mode():
            self.candidate_embeddings: NDArray[np.float32] = model.candidate_tower().cpu().numpy()
        self._unsearchable = ~searchable_items(self.candidate_embeddings)
        self.exclude_seen = exclude_seen
        self._num_candidates = num_candidates

    @property
    def num_items(self) -> int:
        return len(self.candidate_embeddings)

    def encode(self, histories: list[History]) -> NDArray[np.float32]:
        """-> [histories, embedding_dim]"""
        with torch.inference_mode():
            queries: NDArray[np.float32] = encode_histories(self._model, histories).cpu().numpy()
        return queries

    def search(
        self, histories: list[History], seen: list[History] | None = None
    ) -> tuple[NDArray[np.float32], list[Retrieved]]:
        """-> the scores of all items [histories, num_items], -inf for excluded items, and the retrieved candidates.

        seen: the items of each history that count as seen; by default all.
        """
        queries = self.encode(histories)
        scores = queries @ self.candidate_embeddings.T
        scores[:, self._unsearchable] = -np.inf
        if self.exclude_seen:
            mask_seen_items(scores, histories if seen is None else seen)
        found = (nearest_items(row, self._num_candidates) for row in scores)
        return scores, [Retrieved(query, candidates) for query, candidates in zip(queries, found, strict=True)]
