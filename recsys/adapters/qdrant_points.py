"""How items are stored as points of a Qdrant collection, whichever engine holds it."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.retrieval import CatalogueItem
from recsys.errors import UpstreamAnswerInvalid

SIMILAR_POOL = 10
"""How many times `top_k` are fetched by dot product before the nearest by angle are taken from them."""
DIGEST_BYTES = 8
CACHED_IDS = 1_000_000


def collection_name(release_version: int) -> str:
    return f"items_v{release_version}"


def version_in(name: str) -> int | None:
    """The release version in a collection's name; None for a collection that is not ours."""
    found = re.fullmatch(r"items_v([1-9]\d*)", name)
    return int(found[1]) if found else None


def _hashed(item_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=DIGEST_BYTES).digest(), "big") >> 1


@lru_cache(maxsize=CACHED_IDS)
def point_id(item_id: str) -> int:
    """63 bits of the id's hash. Two of a million items share one in 1 of 18 million catalogues; indexing notices."""
    return _hashed(item_id)


def payload_of(item: CatalogueItem, weights_hash: str) -> dict[str, Any]:
    return {"item_id": item.item_id, "title": item.title, "metadata": item.metadata, "weights": weights_hash}


class PointIds:
    """Which item each point of a collection is, in 12 bytes per item."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        self._item_ids = item_ids
        ids = np.fromiter(map(_hashed, item_ids), dtype=np.uint64, count=len(item_ids))
        order = np.argsort(ids)
        self._rows = order.astype(np.uint32)
        self._sorted = ids[order]

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._sorted.nbytes

    def item_ids_of(self, point_ids: Sequence[int]) -> list[str]:
        """The items of these points, in their order. Raises `UpstreamAnswerInvalid` for a point of no known item."""
        rows, known = self._find(point_ids)
        if not known.all():
            raise UpstreamAnswerInvalid(f"the index answered with {np.count_nonzero(~known)} points of unknown items")
        return [self._item_ids[row] for row in rows.tolist()]

    def rows_of(self, item_ids: Sequence[str]) -> list[int | None]:
        """The place of each item in the ids that this was made of; None for an unknown item."""
        rows, known = self._find([point_id(item_id) for item_id in item_ids])
        return [row if there else None for row, there in zip(rows.tolist(), known.tolist(), strict=True)]

    def _find(self, point_ids: Sequence[int]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        wanted = np.array(point_ids, dtype=np.uint64)
        if not len(self._sorted):
            return np.zeros(len(wanted), np.uint32), np.zeros(len(wanted), np.bool_)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return self._rows[places], self._sorted[places] == wanted


def nearest_by_angle(
    anchor: Sequence[float], vectors: Sequence[Sequence[float]], top_k: int
) -> tuple[list[int], list[float]]:
    """Rows and cosines of the vectors nearest to the anchor, best first; the last dimension is the bias and left out.

    anchor: [embedding_dim]; vectors: [pool, embedding_dim].
    """
    if not len(vectors):
        return [], []
    pool: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32)[:, :-1]
    query = np.asarray(anchor, dtype=np.float32)[:-1]
    norms = np.linalg.norm(pool, axis=1) * np.linalg.norm(query)
    cosines = pool @ query / np.where(norms == 0, 1, norms)
    best = np.argsort(-cosines, kind="stable")[:top_k]
    return best.tolist(), cosines[best].tolist()


def without_bias(anchor: Sequence[float]) -> list[float]:
    """[embedding_dim]: the query for the neighbours of an item, which no bias lifts."""
    return [*anchor[:-1], 0.0]
