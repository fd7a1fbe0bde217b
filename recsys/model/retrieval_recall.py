"""What an index has found, beside what exact search finds in the same release."""

from collections.abc import Iterable

import numpy as np

from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.errors import InvalidRequest, ReleaseMismatch
from recsys.model.neighbours import Indices
from recsys.model.release import Release

SCORE_TOLERANCE = 1e-3
"""Scores that differ by less are equal: which of two such items is found makes no difference."""


def measure_recall(release: Release, retrieval: Retrieval) -> RecallMeasurement:
    """Compare with every item of the release; of a million that takes some 100 ms of one core.

    Raises `ReleaseMismatch` for a query by other weights, `InvalidRequest` for one of another dimension.
    """
    weights_hash, embedding_dim = release.manifest.weights_hash, release.manifest.embedding_dim
    if retrieval.weights_hash != weights_hash:
        raise ReleaseMismatch(
            f"the query is by the weights {retrieval.weights_hash}, release {release.version} by {weights_hash}"
        )
    if len(retrieval.query_embedding) != embedding_dim:
        raise InvalidRequest(f"query_embedding: {len(retrieval.query_embedding)} numbers; expected {embedding_dim}")
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
