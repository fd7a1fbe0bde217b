"""How items are stored as points of a Qdrant collection and searched, on a server or embedded."""

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.adapters.item_rows import ItemRows, SortedNumbers
from recsys.contracts.retrieval import CatalogueItem, SearchSettings
from recsys.errors import UpstreamAnswerInvalid

SIMILAR_POOL = 10
"""Similar items are the nearest by angle among this many times `top_k` nearest by dot product."""
DIGEST_BYTES = 8


def collection_name(release_version: int) -> str:
    return f"items_v{release_version}"


def version_in(name: str) -> int | None:
    """The release version in a collection's name; None for a collection of another application."""
    found = re.fullmatch(r"items_v([1-9]\d*)", name)
    return int(found[1]) if found else None


def point_id(item_id: str) -> int:
    """63 bits of the id's hash. In 1 of 18 million catalogues of a million items, two collide; indexing detects it."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=DIGEST_BYTES).digest(), "big") >> 1


def _point_ids(item_ids: Collection[str]) -> NDArray[np.uint64]:
    """`point_id` of many items."""
    return np.fromiter(map(point_id, item_ids), dtype=np.uint64, count=len(item_ids))


def payload_of(item: CatalogueItem, weights_hash: str) -> dict[str, Any]:
    return {"item_id": item.item_id, "title": item.title, "metadata": item.metadata, "weights": weights_hash}


def search_params(settings: SearchSettings, limit: int) -> dict[str, Any]:
    """The parameters of a search, as Qdrant's API and its embedded engine name them."""
    if settings.hnsw_ef is None:
        return {"exact": True}
    if settings.oversampling is None:
        quantization: dict[str, Any] = {"ignore": True}
    else:
        quantization = {"rescore": True, "oversampling": settings.oversampling}
    return {"hnsw_ef": max(settings.hnsw_ef, limit), "quantization": quantization}


class PointIds:
    """Maps the points of a collection to items, and items to points, in 32 bytes per item.

    Items are looked up by `ItemRows` although a point's number is a hash, too: computing that of the thousand items
    that a user may have seen takes more time than the search.
    """

    def __init__(self, item_ids: Sequence[str]) -> None:
        self._item_ids = item_ids
        self._rows_by_id = ItemRows(item_ids)
        self._points = _point_ids(item_ids)
        self._rows_by_point = SortedNumbers(self._points)

    @property
    def nbytes(self) -> int:
        return self._rows_by_id.nbytes + self._points.nbytes + self._rows_by_point.nbytes

    def item_ids_of(self, point_ids: Sequence[int]) -> list[str]:
        """The items of these points, in order. Raises `UpstreamAnswerInvalid` for an unknown point."""
        rows, known = self._rows_by_point.find(np.array(point_ids, dtype=np.uint64))
        if not known.all():
            raise UpstreamAnswerInvalid(f"the index returned {np.count_nonzero(~known)} points of unknown items")
        return [self._item_ids[row] for row in rows.tolist()]

    def points_of(self, item_ids: Collection[str]) -> list[int]:
        """The points of these items. Unknown items are left out."""
        rows = [row for row in self._rows_by_id.rows_of(item_ids) if row is not None]
        points: list[int] = self._points[rows].tolist()
        return points


def nearest_by_angle(
    anchor: Sequence[float], vectors: Sequence[Sequence[float]], top_k: int
) -> tuple[list[int], list[float]]:
    """Rows and cosines of the vectors nearest to the anchor, best first, ignoring the last dimension (the bias).

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
    """[embedding_dim]: the query for an item's neighbours, with bias 0 so that popularity has no influence."""
    return [*anchor[:-1], 0.0]
