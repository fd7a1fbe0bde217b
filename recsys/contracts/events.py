"""What users do: from the page through the orchestrator and the feature service into Redis."""

import time
import uuid
from typing import Annotated

from pydantic import Field, StringConstraints

from recsys.contracts.base import ItemId, RequestModel, ResponseModel, UserId

MAX_EVENTS = 1000
LATEST_TIMESTAMP = 10_000_000_000.0
"""The year 2286; anything above was meant in milliseconds."""

EventKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Event(RequestModel):
    """One sign of interest of a user in an item. Posting it twice under one `event_id` counts once."""

    event_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = Field(
        default_factory=lambda: uuid.uuid4().hex, description="Made up by the server where the caller sends none."
    )
    user_id: UserId
    item_id: ItemId
    event: EventKind = Field(description="The team's own word: view, click, purchase, rating, ...")
    timestamp: float = Field(
        default_factory=time.time, ge=0, le=LATEST_TIMESTAMP, description="Seconds since 1970, UTC; now by default."
    )
    recommendation_id: Annotated[str, StringConstraints(max_length=64)] | None = None


Events = Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


class EventsRecorded(ResponseModel):
    recorded: int = Field(description="Events that are new.")
    duplicates: int = Field(description="Events whose event_id was known already.")
