"""User events, on their way from a page through the orchestrator and the feature service to Redis."""

import hashlib
import json
import uuid
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from recsys import clock
from recsys.contracts.base import DEFAULT_PLACEMENT, ItemId, Placement, RequestModel, ResponseModel, UserId
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds

MAX_EVENTS = 1000
LATEST_TIMESTAMP = 10_000_000_000.0
"""The year 2286; a larger value is in milliseconds by mistake."""

EventKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Event(RequestModel):
    """An interaction of a user with an item.

    A user's events with the same `event_id`, or with the same item, kind and second, are recorded once.
    """

    event_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = Field(
        default_factory=str,  # replaced after validation, by an id that may depend on the other fields
        description="Identifies the event if it is sent again. If it is missing, it is derived from the other fields. "
        "An event without event_id and without timestamp may count twice if it is sent again.",
    )
    user_id: UserId
    item_id: ItemId
    event: EventKind = Field(description="Any lower-case word: view, click, purchase, rating, ...")
    timestamp: float = Field(
        default_factory=lambda: clock.now(),
        ge=0,
        le=LATEST_TIMESTAMP,
        description="Unix time in seconds; now by default.",
    )
    value: float | None = Field(
        default=None, allow_inf_nan=False, description="What the kind measures: a rating, a price, seconds watched."
    )
    placement: Placement = Field(default=DEFAULT_PLACEMENT, description="Where the user met the item.")
    recommendation_id: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The recommendation that the user met the item in."
    )

    @model_validator(mode="after")
    def _identified(self) -> Self:
        if "event_id" not in self.model_fields_set:
            identified = "timestamp" in self.model_fields_set
            object.__setattr__(self, "event_id", self._content_id() if identified else uuid.uuid4().hex)
        return self

    def _content_id(self) -> str:
        content = json.dumps([self.user_id, self.item_id, self.event, self.timestamp])
        return f"content:{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"


Events = Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


class EventBatch(RequestModel):
    """Events and what the serving catalogue knows about them, on the way from the orchestrator to the feature store."""

    events: Events
    event_kinds: EventKinds = Field(
        default=DEFAULT_KINDS, description="What the events' kinds mean, for kinds without the default meaning."
    )
    known: Annotated[list[bool], Field(max_length=MAX_EVENTS)] = Field(
        description="For each event, in order: whether the serving catalogue has its item. Others are never popular."
    )

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if len(self.known) != len(self.events):
            raise ValueError(f"known has {len(self.known)} values for {len(self.events)} events")
        return self


class RecordedEvents(ResponseModel):
    """What the feature store did with a batch of events."""

    new: list[bool] = Field(description="For each event, in order: whether it was recorded; false for a duplicate.")


class EventsRecorded(ResponseModel):
    recorded: int = Field(description="New events.")
    duplicates: int = Field(description="Events that were already recorded.")
