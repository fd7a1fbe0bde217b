"""Ranking requests, and the scores for their candidates."""

from pydantic import Field

from recsys.contracts.base import (
    MAX_CANDIDATES,
    MAX_DISLIKED,
    MAX_HISTORY,
    ItemId,
    ReleaseNumber,
    RequestModel,
    ResponseModel,
)


class RankRequest(RequestModel):
    recent_items: list[ItemId] = Field(max_length=MAX_HISTORY, description="Newest last; empty for a new user.")
    candidate_items: list[ItemId] = Field(min_length=1, max_length=MAX_CANDIDATES)
    disliked_items: list[ItemId] = Field(
        default=[], max_length=MAX_DISLIKED, description="Items that the user does not want."
    )
    release_version: ReleaseNumber | None = Field(
        default=None, description="The release that retrieved the candidates; the champion by default."
    )


class RankedScores(ResponseModel):
    release_version: int
    weights_hash: str
    personalized: bool = Field(description="False if no recent item is known; the scores are then popularity.")
    scores: list[float | None] = Field(description="One per candidate, in order; null for an unknown item.")
    near_disliked: list[str] = Field(default=[], description="Candidates that are near a disliked item.")
