"""From recent items to a query embedding, and from there to candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import Field

from recsys.contracts.base import MAX_HISTORY, ItemId, ReleaseNumber, RequestModel, ResponseModel

UNINDEXED_SHARE = 0.1
"""Of a collection with a graph, at most this part may be outside it ..."""
UNINDEXED_ITEMS = 256
"""... or this many items, which is all of a tiny collection."""


class EncodeRequest(RequestModel):
    recent_items: list[ItemId] = Field(min_length=1, max_length=MAX_HISTORY, description="Newest last.")
    release_version: ReleaseNumber | None = Field(
        default=None, description="Any loaded release; the champion by default."
    )


class QueryEmbedding(ResponseModel):
    """The query tower's answer. It may be searched in the collection of `release` only."""

    release_version: int
    weights_hash: str = Field(description="Names the weights; a collection that names others is refused.")
    query_embedding: list[float] | None = Field(
        description="[embedding_dim]; null where the release knows none of the recent items."
    )
    exclude_seen: bool = Field(
        default=True, description="The release's policy: false where what the user has seen may be recommended again."
    )


class SearchSettings(ResponseModel):
    """How a release's collection is searched: measured by `make index`, stored as a tag of the registered version."""

    hnsw_ef: int | None = Field(ge=1, description="Breadth of the graph search; null compares every vector.")
    oversampling: float | None = Field(
        default=None, ge=1, description="Quantised vectors fetched per result and rescored; null uses none."
    )

    query_scale: float = Field(
        default=1.0, gt=0, description="What brings queries into the range of the quantised vectors."
    )
    num_vectors: int | None = Field(default=None, ge=0, description="Items that have a vector; null for all of them.")

    @property
    def exact(self) -> bool:
        return self.hnsw_ef is None

    def scaled(self, query_embedding: Sequence[float]) -> list[float]:
        """The query as the index gets it."""
        return [component * self.query_scale for component in query_embedding]

    def unscaled(self, similarities: Sequence[float]) -> list[float]:
        """What the index answers, as dot products with the query that was asked."""
        return [similarity / self.query_scale for similarity in similarities]


class ServingReleases(ResponseModel):
    """Which releases a ranker has, and what they are to it."""

    champion: int
    challenger: int | None = None
    loaded: list[int] = Field(description="Every version that it serves when it is asked for by number.")
    vocabulary_hash: str = Field(description="Of the champion; lists that were computed ahead are good for it only.")
    weights_hashes: dict[int, str] = Field(default={}, description="Names the weights of each loaded release.")
    search: dict[int, SearchSettings] = Field(
        default={}, description="How each loaded release's collection is searched; missing where it was never verified."
    )
    problems: list[str] = Field(default=[], description="What keeps other versions from being loaded.")


class CatalogueItem(NamedTuple):
    """An item as it is shown."""

    item_id: str
    title: str
    metadata: dict[str, Any]
    """categories, year and price, as far as they are known."""


class Candidate(NamedTuple):
    """An item that the index found, described elsewhere."""

    item_id: str
    similarity: float
    """The dot product of query and candidate embedding; the cosine where items are compared with an item."""
    weights_hash: str
    """Of the release whose embedding was found, as the collection itself says."""


class IndexedItem(NamedTuple):
    """An item as it is written into a collection."""

    item: CatalogueItem
    embedding: list[float] | None
    """[embedding_dim], from the candidate tower, with the bias in the last dimension.

    None for an item that the towers cannot place: it is found by id and title only.
    """


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How the graph of a collection is built. Beside it lie int8 copies of the vectors, which a search may use."""

    m: int
    """Edges per node."""
    ef_construct: int
    """Breadth of the search for a new node's neighbours."""


class CollectionStatus(NamedTuple):
    """How far a collection's graph has been built."""

    num_points: int
    num_indexed: int
    """Vectors in the graph; the others are compared one by one."""
    indexing: bool
    """Whether the engine is still at work on it."""

    def is_indexed(self, num_vectors: int | None = None) -> bool:
        """Whether the graph covers the vectors, by default one per point, but for a rest that is cheap to scan."""
        expected = self.num_points if num_vectors is None else num_vectors
        return expected - self.num_indexed <= max(UNINDEXED_ITEMS, UNINDEXED_SHARE * expected)
