"""Searches and scores of the release that encoded the query. Both raise `ReleaseMismatch` if the weights differ."""

from collections.abc import Collection, Sequence

from recsys.contracts.ranking import RankedScores
from recsys.contracts.retrieval import Candidate, QueryEmbedding
from recsys.errors import ReleaseMismatch
from recsys.ports import Ranker, VectorIndex


async def search(
    index: VectorIndex,
    query: QueryEmbedding,
    query_embedding: Sequence[float],
    num_candidates: int,
    exclude: Collection[str],
) -> list[Candidate]:
    candidates = await index.search(query.release_version, query_embedding, num_candidates, exclude)
    if candidates:
        _check_weights(query, "collection", candidates[0].weights_hash)
    return candidates


async def rank(
    ranker: Ranker,
    query: QueryEmbedding,
    recent_items: Sequence[str],
    item_ids: Sequence[str],
    disliked_items: Sequence[str] = (),
) -> RankedScores:
    scores = await ranker.rank(recent_items, item_ids, query.release_version, disliked_items)
    _check_weights(query, "ranker", scores.weights_hash)
    return scores


def _check_weights(query: QueryEmbedding, source: str, weights_hash: str) -> None:
    if weights_hash != query.weights_hash:
        raise ReleaseMismatch(
            f"release {query.release_version}: the query was encoded with weights {query.weights_hash}, "
            f"but the {source} uses weights {weights_hash}"
        )
