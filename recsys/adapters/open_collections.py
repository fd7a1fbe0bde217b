"""The collections that a Qdrant adapter has open for searching, on a server or embedded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

from recsys.adapters.qdrant_points import PointIds, collection_name, nearest_by_angle
from recsys.contracts.retrieval import Candidate, SearchSettings
from recsys.errors import ReleaseNotLoaded, UnknownItem

KEPT_OPEN = 4
"""Those of the champion, the challenger, the previous release and the next one."""
NEW_CANDIDATE = partial(tuple.__new__, Candidate)
"""Like `Candidate._make`, without a Python frame for each of hundreds. It takes less than half the time."""


@dataclass(frozen=True, slots=True)
class OpenCollection:
    point_ids: PointIds
    weights_hash: str
    settings: SearchSettings

    def candidates(self, point_ids: Sequence[int], similarities: Sequence[float]) -> list[Candidate]:
        """Raises `UpstreamAnswerInvalid` for a point that is not an item of the release."""
        item_ids = self.point_ids.item_ids_of(point_ids)
        return list(map(NEW_CANDIDATE, zip(item_ids, similarities, repeat(self.weights_hash), strict=False)))

    def nearest_by_angle(
        self, anchor: Sequence[float], point_ids: Sequence[int], vectors: Sequence[Sequence[float]], top_k: int
    ) -> list[Candidate]:
        """The points nearest in angle to the anchor [embedding_dim]; vectors [points, embedding_dim]."""
        rows, cosines = nearest_by_angle(anchor, vectors, top_k)
        return self.candidates([point_ids[row] for row in rows], cosines)


class OpenCollections:
    """The most recently opened collections, by release version."""

    def __init__(self) -> None:
        self._opened: dict[int, OpenCollection] = {}

    async def open(
        self, release_version: int, item_ids: Sequence[str], weights_hash: str, settings: SearchSettings
    ) -> list[int]:
        """Open a collection, or reopen it with new settings. Returns the versions that were closed to make room."""
        known = self._opened.get(release_version)
        if known is not None and known.weights_hash == weights_hash:
            point_ids = known.point_ids
        else:  # a million ids take a second
            point_ids = await asyncio.to_thread(PointIds, item_ids)
        self._opened.pop(release_version, None)
        self._opened[release_version] = OpenCollection(point_ids, weights_hash, settings)
        closed = list(self._opened)[:-KEPT_OPEN]
        for version in closed:
            del self._opened[version]
        return closed

    def __getitem__(self, release_version: int) -> OpenCollection:
        """Raises `ReleaseNotLoaded` if it is not open."""
        try:
            return self._opened[release_version]
        except KeyError:
            raise ReleaseNotLoaded(f"the collection {collection_name(release_version)} is not open") from None

    def close(self, release_version: int) -> None:
        self._opened.pop(release_version, None)


def no_collection(release_version: int) -> ReleaseNotLoaded:
    return ReleaseNotLoaded(f"there is no collection {collection_name(release_version)}; run `make index`")


def unknown_item(release_version: int, item_id: str) -> UnknownItem:
    return UnknownItem(f"release {release_version} has no item {item_id!r}")
