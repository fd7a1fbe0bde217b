"""User features and popular items, as the feature store returns them."""

from typing import Annotated

from pydantic import Field

from recsys.contracts.base import MAX_EXCLUDED, ItemId, RequestModel, ResponseModel

SHIPPED_SEEN = 1_000
"""The newest seen items that user features hold. `FeatureStore.seen_among` finds older ones."""


class PrecomputedList(ResponseModel):
    """Recommendations computed by a batch job, served if no better ones are available in time."""

    release_version: int
    item_ids: list[str] = Field(description="Best first.")


class PrecomputedAnswer(ResponseModel):
    precomputed: PrecomputedList | None


class SeenQuestion(RequestModel):
    item_ids: Annotated[list[ItemId], Field(max_length=MAX_EXCLUDED)]


class SeenAnswer(ResponseModel):
    item_ids: list[str] = Field(description="Those of the given items that the user has seen.")


class UserFeatures(ResponseModel):
    user_id: str
    known: bool = Field(description="False for a user without recorded data.")
    recent_items: list[str] = Field(description="Up to 200 items, newest last, with repeats.")
    seen_items: list[str] = Field(description="The newest 1,000 items that count as seen, oldest first, no repeats.")
    disliked_items: list[str] = Field(
        default=[], description="The newest 100 items that the user does not want, by the kinds of the user's events."
    )
    more_seen: bool = Field(default=False, description="Whether the user has seen more items than these.")
    attributes: dict[str, str] = Field(description="Attributes of the user, written by the seed job.")

    @classmethod
    def unknown(cls, user_id: str) -> "UserFeatures":
        return cls(user_id=user_id, known=False, recent_items=[], seen_items=[], attributes={})


class PopularItem(ResponseModel):
    item_id: str
    popularity: float = Field(description="Decayed count of events; only the order is meaningful.")


class PopularItems(ResponseModel):
    items: list[PopularItem]
