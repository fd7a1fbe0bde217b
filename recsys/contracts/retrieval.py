"""From recent items to a query embedding, and from there to candidates."""

from typing import Any, NamedTuple

from pydantic import Field

from recsys.contracts.base import MAX_HISTORY, Answer, ItemId, Request


class EncodeRequest(Request):
    recent_items: list[ItemId] = Field(min_length=1, max_length=MAX_HISTORY, description="Newest last.")


class QueryEmbedding(Answer):
    """The query tower's answer. It may be searched in the collection of `release` only."""

    release: int
    query_embedding: list[float] | None = Field(
        description="[embedding_dim]; null where the release knows none of the recent items."
    )
    exclude_seen: bool = Field(
        default=True, description="The release's policy: false where what the user has seen may be recommended again."
    )


class ServingRelease(Answer):
    release: int


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
