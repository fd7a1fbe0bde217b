"""How items stand in a Qdrant collection, whichever engine holds it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.retrieval import Candidate, CatalogueItem
from recsys.errors import UpstreamAnswerInvalid

HNSW_M = 16
HNSW_EF_CONSTRUCT = 128
SIMILAR_POOL = 10
"""How many times `top_k` are fetched by dot product before the nearest by angle are taken from them."""


@dataclass(frozen=True, slots=True)
class IndexedItem:
    item: CatalogueItem
    embedding: list[float]
    """[embedding_dim], from the candidate tower; the last dimension is the item's bias."""
    weights: str = ""
    """Names the weights that the embedding came of."""


def collection_name(release: int) -> str:
    return f"items_v{release}"


@lru_cache(maxsize=1_000_000)
def point_id(item_id: str) -> int:
    """63 bits of the id's hash. Two of a million items share one in 1 of 18 million catalogues; indexing notices."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big") >> 1


def payload_of(indexed: IndexedItem) -> dict[str, Any]:
    item = indexed.item
    return {"item_id": item.item_id, "title": item.title, "metadata": item.metadata, "weights": indexed.weights}


def item_from(payload: dict[str, Any] | None) -> CatalogueItem:
    """What `payload_of` wrote. Raises UpstreamAnswerInvalid where that is not what came back."""
    match payload:
        case {"item_id": str(item_id), "title": str(title), "metadata": dict(metadata)}:
            return CatalogueItem(item_id, title, metadata)
    raise UpstreamAnswerInvalid("the index answered with a point that describes no item")


def indexed_from(payload: dict[str, Any] | None, embedding: list[float]) -> IndexedItem:
    return IndexedItem(item_from(payload), embedding, _weights_in(payload))


def candidate_from(payload: dict[str, Any] | None, similarity: float) -> Candidate:
    return Candidate(item_from(payload), similarity, _weights_in(payload))


def _weights_in(payload: dict[str, Any] | None) -> str:
    match payload:
        case {"weights": str(weights)}:
            return weights
    raise UpstreamAnswerInvalid("the index answered with a point of no known weights")


def search_ef(num_candidates: int) -> int:
    """The breadth of the graph search; below the number of candidates it would return fewer than asked for."""
    return max(128, 2 * num_candidates)


def nearest_by_angle(anchor: Sequence[float], pool: Sequence[IndexedItem], top_k: int) -> list[Candidate]:
    """The items of the pool with the highest cosine to the anchor, without regard to bias (the last dimension)."""
    if not pool:
        return []
    vectors: NDArray[np.float32] = np.asarray([each.embedding for each in pool], dtype=np.float32)[:, :-1]
    query = np.asarray(anchor, dtype=np.float32)[:-1]
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    cosines = vectors @ query / np.where(norms == 0, 1, norms)
    best = np.argsort(-cosines, kind="stable")[:top_k]
    return [Candidate(pool[i].item, float(cosines[i]), pool[i].weights) for i in best]
