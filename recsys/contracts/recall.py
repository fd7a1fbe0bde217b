"""The recall of a retrieval against exact search, measured by the ranker."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pydantic import Field, FiniteFloat

from recsys.contracts.base import (
    MAX_CANDIDATES,
    MAX_DISLIKED,
    MAX_EXCLUDED,
    MAX_HISTORY,
    ItemId,
    ReleaseNumber,
    RequestModel,
    ResponseModel,
)
from recsys.contracts.features import SHIPPED_SEEN

MAX_EMBEDDING_DIM = 4096
MAX_TOTAL_EXCLUDED = SHIPPED_SEEN + MAX_DISLIKED + MAX_HISTORY + MAX_EXCLUDED
"""The most items that a search can exclude: the user's newest seen items, what the user does not want, the session's
items, and the items that the request excludes. Items that were seen earlier are not excluded in the search, but dropped
from its results."""


class Retrieval(NamedTuple):
    """A search for candidates, and its results."""

    release_version: int
    weights_hash: str
    query_embedding: Sequence[float]
    num_candidates: int
    """The requested number of candidates."""
    exclude: Collection[str]
    retrieved: Sequence[str]


class RecallRequest(RequestModel):
    release_version: ReleaseNumber
    weights_hash: str = Field(description="Weights of the query embedding; must be those of the release.")
    query_embedding: list[FiniteFloat] = Field(min_length=1, max_length=MAX_EMBEDDING_DIM)
    num_candidates: int = Field(ge=1, le=MAX_CANDIDATES, description="The requested number of candidates.")
    exclude_items: list[ItemId] = Field(max_length=MAX_TOTAL_EXCLUDED)
    retrieved_items: list[ItemId] = Field(max_length=MAX_CANDIDATES)

    @classmethod
    def of(cls, retrieval: Retrieval) -> "RecallRequest":
        return cls(
            release_version=retrieval.release_version,
            weights_hash=retrieval.weights_hash,
            query_embedding=list(retrieval.query_embedding),
            num_candidates=retrieval.num_candidates,
            exclude_items=list(retrieval.exclude),
            retrieved_items=list(retrieval.retrieved),
        )

    @property
    def retrieval(self) -> Retrieval:
        return Retrieval(
            release_version=self.release_version,
            weights_hash=self.weights_hash,
            query_embedding=self.query_embedding,
            num_candidates=self.num_candidates,
            exclude=self.exclude_items,
            retrieved=self.retrieved_items,
        )


class RecallMeasurement(ResponseModel):
    num_nearest: int = Field(description="Number of items found by exact search.")
    num_found: int = Field(description="Number of retrieved items that score as high as those.")

    @property
    def recall(self) -> float:
        return self.num_found / self.num_nearest if self.num_nearest else 1.0
