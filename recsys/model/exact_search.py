"""Exact nearest-neighbour search without an index: the reference for recall, and the retrieval that jobs use."""

import numpy as np
from numpy.typing import NDArray

from recsys.model.neighbours import Indices

Scores = NDArray[np.float32]


def searchable_items(candidate_embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
    """candidate_embeddings [num_items, embedding_dim] -> [num_items]: whether an item has a vector besides its bias.

    Items without one (no event in training, no content) are not near any query, so they are not indexed.
    """
    return np.asarray(candidate_embeddings[:, :-1].any(axis=1), dtype=np.bool_)


def nearest_items(scores: Scores, num_candidates: int) -> Indices:
    """scores [num_items], -inf for items to leave out -> at most num_candidates item indices, best first."""
    depth = min(num_candidates, len(scores))
    best = np.argpartition(-scores, depth - 1)[:depth]
    best = best[np.argsort(-scores[best], kind="stable")]
    return best[np.isfinite(scores[best])] + 1
