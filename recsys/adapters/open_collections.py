"""The collections that an index has open for searching, whichever engine holds them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from recsys.adapters.qdrant_points import PointIds, collection_name
from recsys.contracts.retrieval import Candidate, SearchSettings
from recsys.errors import ReleaseNotLoaded

KEPT_OPEN = 4
"""The champion's, the challenger's, the previous one, and the next."""


@dataclass(frozen=True, slots=True)
class OpenCollection:
    point_ids: PointIds
    weights_hash: str
    settings: SearchSettings

    def candidates(self, point_ids: Sequence[int], similarities: Sequence[float]) -> list[Candidate]:
        """Raises `UpstreamAnswerInvalid` for a point of no known item."""
        item_ids = self.point_ids.item_ids_of(point_ids)
        weights_hash = self.weights_hash
        return [Candidate(*each, weights_hash) for each in zip(item_ids, similarities, strict=True)]


class OpenCollections:
    """The last few that were opened, by release version."""

    def __init__(self) -> None:
        self._opened: dict[int, OpenCollection] = {}

    async def open(
        self, release_version: int, item_ids: Sequence[str], weights_hash: str, settings: SearchSettings
    ) -> list[int]:
        """Open a collection, or open it again with new settings. Returns the versions that were closed for it."""
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
    return ReleaseNotLoaded(f"Qdrant has no collection {collection_name(release_version)}; run `make index`")
