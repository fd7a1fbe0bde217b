"""The public API's own shapes."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from recsys.contracts.base import (
    MAX_CANDIDATES,
    MAX_EXCLUDED,
    MAX_HISTORY,
    MAX_TOP_K,
    ItemId,
    RequestModel,
    ResponseModel,
    UserId,
)


class Tier(StrEnum):
    """How good an answer is, best first."""

    PERSONALIZED = "personalized"
    RETRIEVED = "retrieved"
    PRECOMPUTED = "precomputed"
    POPULAR = "popular"
    STATIC = "static"


class Provenance(ResponseModel):
    """Which weights made each part of an answer; all that are there agree, or the answer was not given."""

    query: str | None = None
    collection: str | None = None
    rank: str | None = None


class RecommendationRequest(RequestModel):
    user_id: UserId
    session_items: list[ItemId] = Field(
        default=[],
        max_length=MAX_HISTORY,
        description="What the user did just now, newest last, without an event.",
    )
    candidate_items: list[ItemId] | None = Field(
        default=None, min_length=1, max_length=MAX_CANDIDATES, description="Rank just these instead of retrieving."
    )
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)
    debug: bool = Field(default=False, description="Say which weights made each part of the answer.")
    exclude_items: list[ItemId] = Field(default=[], max_length=MAX_EXCLUDED, description="Never recommend these.")


class Recommendation(ResponseModel):
    item_id: str
    score: float | None = Field(description="Comparable within one answer only; null for an item nobody can score.")
    rank: int = Field(description="1 is best.")
    title: str | None
    metadata: dict[str, Any]


class RecommendationList(ResponseModel):
    """What every endpoint that recommends answers with."""

    recommendations: list[Recommendation]
    release_version: int | None = Field(description="The release that described or scored the items.")


class RecommendationResponse(RecommendationList):
    recommendation_id: str
    user_id: str
    total_candidates: int = Field(description="How many items were considered.")
    tier: Tier
    tier_reason: str = Field(description="`complete`, or what kept the answer from a better tier.")
    variant: str = Field(description="Which side of the experiment the user is on: champion or challenger.")
    timings_ms: dict[str, float] = Field(description="Per stage that ran, and `total`.")
    debug: Provenance | None = None


class ItemResponse(ResponseModel):
    item_id: str
    title: str
    metadata: dict[str, Any]


class ItemsResponse(ResponseModel):
    items: list[ItemResponse]
