"""Requests and responses of the public API."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from recsys.contracts.base import (
    DEFAULT_PLACEMENT,
    MAX_CANDIDATES,
    MAX_EXCLUDED,
    MAX_HISTORY,
    MAX_TOP_K,
    ItemId,
    Placement,
    RequestModel,
    ResponseModel,
    UserId,
)


class Tier(StrEnum):
    """The quality of a response, best first."""

    PERSONALIZED = "personalized"
    RETRIEVED = "retrieved"
    PRECOMPUTED = "precomputed"
    POPULAR = "popular"
    STATIC = "static"


class Provenance(ResponseModel):
    """The weights that made each part of a response. All that are present are equal."""

    query: str | None = None
    collection: str | None = None
    rank: str | None = None


Propensity = Annotated[float, Field(gt=0, le=1)]


class Exploration(ResponseModel):
    """How a page came about that may show draws from the rest of the shortlist; see `recsys.exploration`."""

    explored: Annotated[list[bool], Field(max_length=MAX_TOP_K)] = Field(
        description="By place: whether it shows a draw, not what the ranker put there."
    )
    propensities: Annotated[list[Propensity], Field(max_length=MAX_TOP_K)] = Field(
        description="By place: the chance that it shows the item that it shows."
    )
    drawn_from: int = Field(ge=1, description="The number of items that a draw is from. Each is as likely.")

    @property
    def positions(self) -> list[int]:
        """The explored places, from 1."""
        return [position for position, drawn in enumerate(self.explored, start=1) if drawn]


class DebugInfo(Provenance):
    explored_positions: list[int] = Field(
        default=[], description="Positions, from 1, that show a random draw, not what the ranker put there."
    )
    sources: dict[str, list[str]] = Field(
        description="By recommended item, the sources of candidates that found it: `towers`, `own`, `following`, "
        "`trending`, `trending_in_categories`. An item that fills the page, or that the caller brought, has none."
    )


class RecommendationRequest(RequestModel):
    user_id: UserId
    session_items: list[ItemId] = Field(
        default=[],
        max_length=MAX_HISTORY,
        description="Items of the current session that were not sent as events, newest last.",
    )
    candidate_items: list[ItemId] | None = Field(
        default=None, min_length=1, max_length=MAX_CANDIDATES, description="Rank only these items, without retrieval."
    )
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)
    placement: Placement = Field(default=DEFAULT_PLACEMENT, description="Where the recommendations will be shown.")
    debug: bool = Field(default=False, description="Say which weights and sources made the response.")
    exclude_items: list[ItemId] = Field(
        default=[], max_length=MAX_EXCLUDED, description="Items that must not be recommended."
    )


class Recommendation(ResponseModel):
    item_id: str
    score: float | None = Field(description="Comparable within one response only; null for an item without a score.")
    rank: int = Field(description="1 is best.")
    title: str | None
    metadata: dict[str, Any]


class RecommendationList(ResponseModel):
    """The part of the response that all recommending endpoints share."""

    recommendations: list[Recommendation]
    release_version: int | None = Field(description="The release that described or scored the items.")


TierReason = Annotated[
    str,
    Field(
        description="`complete`, or the reason for a lower tier. If there are fewer items than `top_k`, it is or ends "
        "with `too_few_items` (the catalogue has no more that may be shown) or `no_catalogue` (none is loaded yet), "
        "after a comma if there is another reason."
    ),
]


class PopularList(RecommendationList):
    tier: Tier
    tier_reason: TierReason


class RecommendationResponse(RecommendationList):
    recommendation_id: str
    user_id: str
    total_candidates: int = Field(description="Number of items considered.")
    tier: Tier
    tier_reason: TierReason
    variant: str = Field(
        description="What serves the user: champion, challenger (in an experiment), or holdback (the release before "
        "the champion, while a promotion ramps)."
    )
    timings_ms: dict[str, float] = Field(description="By stage, for the stages that ran, and `total`.")
    debug: DebugInfo | None = None
    exploration: Exploration | None = Field(default=None, exclude=True)
    """For the event log; callers do not see it."""


class ItemResponse(ResponseModel):
    item_id: str
    title: str
    metadata: dict[str, Any]


class ItemsResponse(ResponseModel):
    items: list[ItemResponse]
