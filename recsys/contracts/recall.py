"""How much of what is nearest a retrieval has found, as the ranker measures it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pydantic import Field, FiniteFloat

from recsys.contracts.base import MAX_CANDIDATES, ItemId, ReleaseNumber, RequestModel, ResponseModel

MAX_EMBEDDING_DIM = 4096
MAX_EXCLUDED_IN_ALL = 20_000
"""All that the feature store remembers of a user, with what a request brings along."""


class Retrieval(NamedTuple):
    """A search for candidates, and what it found."""

    release_version: int
    weights_hash: str
    query_embedding: Sequence[float]
    num_candidates: int
    """How many were asked for."""
    exclude: Collection[str]
    retrieved: Sequence[str]


class RecallRequest(RequestModel):
    release_version: ReleaseNumber
    weights_hash: str = Field(description="Of the query embedding; a release of others is refused.")
    query_embedding: list[FiniteFloat] = Field(min_length=1, max_length=MAX_EMBEDDING_DIM)
    num_candidates: int = Field(ge=1, le=MAX_CANDIDATES, description="How many were asked for.")
    exclude_items: list[ItemId] = Field(max_length=MAX_EXCLUDED_IN_ALL)
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
    num_nearest: int = Field(description="How many items exact search finds.")
    num_found: int = Field(description="How many of the retrieved items score as high as those.")

    @property
    def recall(self) -> float:
        return self.num_found / self.num_nearest if self.num_nearest else 1.0
