"""The entries of the event log: what users did, and what they were shown."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from recsys.contracts.base import (
    DEFAULT_PLACEMENT,
    MAX_TOP_K,
    ItemId,
    Placement,
    ReleaseNumber,
    RequestModel,
    ResponseModel,
    UserId,
)
from recsys.contracts.event_kinds import DEFAULT_MEANING, KindMeaning
from recsys.contracts.events import Event
from recsys.contracts.recommendation import Exploration, Tier

SCHEMA_VERSION = 2
"""Of the entries. Version 2 added `exploration` to impressions and `positive` to events. All versions are read: new
fields are optional."""
MAX_IMPRESSIONS = 1000


class LogTable(StrEnum):
    """The two tables of the log. Each has streams and files of its own."""

    EVENTS = "events"
    IMPRESSIONS = "impressions"


class LoggedEvent(ResponseModel):
    """An event that was recorded, as it was sent."""

    event_id: str = Field(description="Unique among the events of a user.")
    user_id: str
    item_id: str
    event: str = Field(description="The kind.")
    value: float | None
    placement: str
    recommendation_id: str | None
    timestamp: float = Field(description="The client's time, as sent, in Unix time in seconds; it may be wrong.")
    positive: bool | None = Field(
        default=None,
        description="Whether its kind said, by the release that served then, that the user is interested in the item: "
        "it is a step of a history, not negative and of a weight above 0. Null in logs of version 1.",
    )
    server_time: float = Field(description="When the feature service recorded it, in Unix time in seconds.")
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, event: Event, server_time: float, meaning: KindMeaning = DEFAULT_MEANING) -> "LoggedEvent":
        return cls.model_construct(**vars(event), positive=meaning.in_history, server_time=server_time)


class Impression(RequestModel):
    """A recommendation that was served."""

    recommendation_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    user_id: UserId
    item_ids: Annotated[list[ItemId], Field(max_length=MAX_TOP_K)] = Field(description="In the order of the page.")
    release_version: ReleaseNumber | None
    variant: Annotated[str, StringConstraints(max_length=32)]
    tier: Tier
    tier_reason: Annotated[str, StringConstraints(max_length=200)]
    placement: Placement = DEFAULT_PLACEMENT
    took_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="The time until the response.")
    exploration: Exploration | None = Field(
        default=None,
        exclude_if=lambda exploration: exploration is None,
        description="For pages that may show random draws: which do, and with which chances.",
    )
    server_time: float = Field(ge=0, allow_inf_nan=False, description="When it was served, in Unix time in seconds.")
    schema_version: int = SCHEMA_VERSION

    @model_validator(mode="after")
    def _by_place(self) -> Self:
        made = self.exploration
        if made is not None and not len(made.explored) == len(made.propensities) == len(self.item_ids):
            raise ValueError(
                f"exploration has {len(made.explored)} and {len(made.propensities)} values for "
                f"{len(self.item_ids)} items"
            )
        return self


class ImpressionBatch(RequestModel):
    """Impressions on their way from an orchestrator to the log."""

    batch_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] = Field(
        description="A batch that is sent again is appended once."
    )
    impressions: Annotated[list[Impression], Field(min_length=1, max_length=MAX_IMPRESSIONS)]


class ImpressionsAppended(ResponseModel):
    appended: int = Field(description="0 if the log has the batch already.")
