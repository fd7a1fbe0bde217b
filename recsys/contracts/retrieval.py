"""From recent items to a query embedding, and from there to candidates."""

from typing import Any, NamedTuple

from pydantic import Field

from recsys.contracts.base import MAX_HISTORY, Answer, ItemId, ReleaseNumber, Request


class EncodeRequest(Request):
    recent_items: list[ItemId] = Field(min_length=1, max_length=MAX_HISTORY, description="Newest last.")
    release: ReleaseNumber | None = Field(default=None, description="Any loaded release; the champion by default.")


class QueryEmbedding(Answer):
    """The query tower's answer. It may be searched in the collection of `release` only."""

    release: int
    weights: str = Field(description="Names the weights; a collection that names others is refused.")
    query_embedding: list[float] | None = Field(
        description="[embedding_dim]; null where the release knows none of the recent items."
    )
    exclude_seen: bool = Field(
        default=True, description="The release's policy: false where what the user has seen may be recommended again."
    )


class ServingReleases(Answer):
    """Which releases a ranker has, and what they are to it."""

    champion: int
    challenger: int | None = None
    loaded: list[int] = Field(description="Every version that it serves when it is asked for by number.")
    vocabulary_hash: str = Field(description="Of the champion; lists that were computed ahead are good for it only.")
    problems: list[str] = Field(default=[], description="What keeps other versions from being loaded.")


class CatalogueItem(NamedTuple):
    """An item as the index describes it."""

    item_id: str
    title: str
    metadata: dict[str, Any]
    """categories, year and price, as far as they are known."""


class Candidate(NamedTuple):
    item: CatalogueItem
    similarity: float
    """The dot product of query and candidate embedding."""
    weights: str
    """Of the release whose embedding was found, as the collection itself says."""
