"""What the feature store knows of a user, and what everybody likes."""

from pydantic import Field

from recsys.contracts.base import ResponseModel


class PrecomputedList(ResponseModel):
    """What a batch job would show the user; for when nothing better can be had in time."""

    release_version: int
    vocabulary_hash: str
    item_ids: list[str] = Field(description="Best first.")


class UserFeatures(ResponseModel):
    user_id: str
    known: bool = Field(description="False for a user of whom nothing was ever recorded.")
    recent_items: list[str] = Field(description="At most 200, newest last, with repeats.")
    seen_items: list[str] = Field(description="Every item of the user's that is remembered, once each.")
    attributes: dict[str, str] = Field(description="Whatever was seeded for the user besides.")
    precomputed: PrecomputedList | None = None

    @classmethod
    def unknown(cls, user_id: str) -> "UserFeatures":
        return cls(user_id=user_id, known=False, recent_items=[], seen_items=[], attributes={})


class PopularItem(ResponseModel):
    item_id: str
    popularity: float = Field(description="Decayed count of events; only its order means something.")


class PopularItems(ResponseModel):
    items: list[PopularItem]
