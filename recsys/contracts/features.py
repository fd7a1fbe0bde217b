"""User features and popular items, as the feature store returns them."""

from pydantic import Field

from recsys.contracts.base import ResponseModel


class PrecomputedList(ResponseModel):
    """Recommendations computed by a batch job, served if no better ones are available in time."""

    release_version: int
    vocabulary_hash: str
    item_ids: list[str] = Field(description="Best first.")


class UserFeatures(ResponseModel):
    user_id: str
    known: bool = Field(description="False for a user without recorded data.")
    recent_items: list[str] = Field(description="Up to 200 items, newest last, with repeats.")
    seen_items: list[str] = Field(description="All stored items of the user, without repeats.")
    attributes: dict[str, str] = Field(description="Attributes of the user, written by the seed job.")
    precomputed: PrecomputedList | None = None

    @classmethod
    def unknown(cls, user_id: str) -> "UserFeatures":
        return cls(user_id=user_id, known=False, recent_items=[], seen_items=[], attributes={})


class PopularItem(ResponseModel):
    item_id: str
    popularity: float = Field(description="Decayed count of events; only the order is meaningful.")


class PopularItems(ResponseModel):
    items: list[PopularItem]
