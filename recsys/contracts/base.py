"""What the other contracts are made of: ids with bounds, and the two bases."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_ID_LENGTH = 128
MAX_HISTORY = 200
"""How many of a user's newest items are kept for the model; older ones only count as seen."""
MAX_CANDIDATES = 1000
NUM_CANDIDATES = 200
"""How many items are retrieved for the ranker, unless a setting says otherwise."""
MAX_TOP_K = 100
MAX_EXCLUDED = 5000
"""As many items as the feature store remembers of a user, and some."""

UserId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]

ReleaseNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ErrorAnswer(Answer):
    """The body of every 4xx and 5xx."""

    error: str
    detail: str
