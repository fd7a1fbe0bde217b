"""Scores for candidates, from the release that retrieved them."""

from pydantic import Field

from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY, ItemId, ReleaseNumber, RequestModel, ResponseModel


class RankRequest(RequestModel):
    recent_items: list[ItemId] = Field(max_length=MAX_HISTORY, description="Newest last; none for a new user.")
    candidate_items: list[ItemId] = Field(min_length=1, max_length=MAX_CANDIDATES)
    release_version: ReleaseNumber | None = Field(
        default=None, description="The release that retrieved the candidates; the champion by default."
    )


class RankedScores(ResponseModel):
    release_version: int
    weights_hash: str
    personalized: bool = Field(description="False where none of the recent items is known: then popularity decides.")
    scores: list[float | None] = Field(description="One per candidate, in their order; null for an unknown item.")
