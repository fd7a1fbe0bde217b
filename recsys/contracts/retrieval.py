"""Retrieval: query embeddings, search settings, collections and candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import Field

from recsys.contracts.base import MAX_HISTORY, ItemId, ReleaseNumber, RequestModel, ResponseModel
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds

UNINDEXED_SHARE = 0.1
"""The largest share of a collection's vectors that may be outside its graph ..."""
UNINDEXED_ITEMS = 256
"""... or this many vectors, if that is more."""


class EncodeRequest(RequestModel):
    recent_items: list[ItemId] = Field(min_length=1, max_length=MAX_HISTORY, description="Newest last.")
    unseen_items: list[ItemId] = Field(
        default=[], max_length=MAX_HISTORY, description="Those of the recent items that do not count as seen."
    )
    release_version: ReleaseNumber | None = Field(
        default=None, description="Any loaded release; the champion by default."
    )


class QueryEmbedding(ResponseModel):
    """The output of the query tower. Only the collection of `release` may be searched with it."""

    release_version: int
    weights_hash: str = Field(description="Identifies the weights; the collection must have the same.")
    query_embedding: list[float] | None = Field(
        description="[embedding_dim]; null if the release knows none of the recent items."
    )
    exclude_seen: bool = Field(
        default=True, description="The release's policy: false if seen items may be recommended again."
    )
    other_candidates: dict[str, list[str]] = Field(
        default={}, description="Items that sources besides the index propose, by source, best first."
    )


class SearchSettings(ResponseModel):
    """How a release's collection is searched: tuned by `make index`, stored as a tag of the registered version."""

    hnsw_ef: int | None = Field(ge=1, description="Breadth of the graph search; null for an exact scan.")
    oversampling: float | None = Field(
        default=None,
        ge=1,
        description="Quantised vectors fetched per result and rescored; null to search without quantisation.",
    )
    query_scale: float = Field(
        default=1.0, gt=0, description="Factor that brings queries into the range of the quantised vectors."
    )
    num_vectors: int | None = Field(default=None, ge=0, description="Number of items with a vector; null for all.")

    @property
    def exact(self) -> bool:
        return self.hnsw_ef is None

    def scaled(self, query_embedding: Sequence[float]) -> list[float]:
        """The query as it is sent to the index."""
        if self.query_scale == 1.0:
            return list(query_embedding)
        return [component * self.query_scale for component in query_embedding]

    def unscaled(self, similarities: list[float]) -> list[float]:
        """The index's similarities, as dot products with the original query."""
        if self.query_scale == 1.0:
            return similarities
        return [similarity / self.query_scale for similarity in similarities]


class ServingReleases(ResponseModel):
    """The releases that a ranker has loaded, with their roles and search settings."""

    champion: int | None = Field(default=None, description="null while the ranker has loaded no champion.")
    challenger: int | None = None
    holdback: int | None = Field(
        default=None, description="The release before the champion, while a promotion ramps: it serves the other users."
    )
    champion_percent: float = Field(
        default=100.0, description="The share of users that the champion serves while a promotion ramps."
    )
    loaded: list[int] = Field(description="All versions that can be requested by number; empty after a first start.")
    vocabulary_hash: str | None = Field(default=None, description="Vocabulary of the champion.")
    event_kinds: EventKinds = Field(
        default=DEFAULT_KINDS, description="What kinds of events mean to the champion, if not the default."
    )
    weights_hashes: dict[int, str] = Field(default={}, description="Weights of each loaded release, by version.")
    search: dict[int, SearchSettings] = Field(
        default={}, description="Search settings of each loaded release; missing if its collection was never verified."
    )
    problems: list[str] = Field(default=[], description="Why other versions are not loaded.")


class CatalogueItem(NamedTuple):
    """An item with what is displayed of it."""

    item_id: str
    title: str
    metadata: dict[str, Any]
    """categories, year and price, if known."""


class Candidate(NamedTuple):
    """An item found by the index, without its description."""

    item_id: str
    similarity: float
    """The dot product of query and candidate embedding; for similar items, the cosine."""
    weights_hash: str
    """Weights of the candidate embedding, as stored in the collection."""


class IndexedItem(NamedTuple):
    """An item as it is stored in a collection."""

    item: CatalogueItem
    embedding: list[float] | None
    """[embedding_dim], from the candidate tower, with the bias in the last dimension.

    None for an item without a vector: it is found by id and title only.
    """


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How the graph of a collection is built. int8 copies of the vectors are stored with it; a search may use them."""

    m: int
    """Edges per node."""
    ef_construct: int
    """Breadth of the search for a new node's neighbours."""


class CollectionStatus(NamedTuple):
    """Progress of building a collection's graph."""

    num_points: int
    num_indexed: int
    """Vectors in the graph; the others are scanned."""
    indexing: bool
    """Whether the engine is still indexing."""

    def is_indexed(self, num_vectors: int | None = None) -> bool:
        """Whether the graph covers all vectors (by default one per point) except a few that are cheap to scan."""
        expected = self.num_points if num_vectors is None else num_vectors
        return expected - self.num_indexed <= max(UNINDEXED_ITEMS, UNINDEXED_SHARE * expected)
