"""Measures the recall of an index against exact search in the same release."""

from collections.abc import Iterable

import numpy as np

from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.errors import InvalidRequest, ReleaseMismatch
from recsys.model.neighbours import Indices
from recsys.model.release import Release

SCORE_TOLERANCE = 1e-3
"""Scores that differ by less count as equal, so either of two such items may be found."""


def measure_recall(release: Release, retrieval: Retrieval) -> RecallMeasurement:
    """Compares with every item of the release, which takes about 100 ms of one core for a million items.

    Raises `ReleaseMismatch` for a query from other weights, and `InvalidRequest` for one of another dimension.
    """
    weights_hash, embedding_dim = release.manifest.weights_hash, release.manifest.embedding_dim
    if retrieval.weights_hash != weights_hash:
        raise ReleaseMismatch(
            f"the query has the weights {retrieval.weights_hash}; release {release.version} has {weights_hash}"
        )
    if len(retrieval.query_embedding) != embedding_dim:
        raise InvalidRequest(f"query_embedding: {len(retrieval.query_embedding)} components; expected {embedding_dim}")
    query = np.array(retrieval.query_embedding, dtype=np.float32)
    exclude = _known(release, retrieval.exclude)
    nearest = release.nearest(query, retrieval.num_candidates, exclude)
    least = release.candidate_embeddings[nearest[-1:] - 1] @ query
    retrieved = np.setdiff1d(_known(release, retrieval.retrieved), exclude)
    retrieved = retrieved[release.searchable[retrieved - 1]]
    scores = release.candidate_embeddings[retrieved - 1] @ query
    found = np.count_nonzero(scores >= least.min(initial=np.inf) - SCORE_TOLERANCE)
    return RecallMeasurement(num_nearest=len(nearest), num_found=min(found, len(nearest)))


def _known(release: Release, item_ids: Iterable[str]) -> Indices:
    return np.array(release.vocabulary.indices(item_ids), dtype=np.int64)
