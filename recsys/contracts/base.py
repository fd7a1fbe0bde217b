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


WIRE_NAMES = {"release_version": "release", "weights_hash": "weights", "weights_hashes": "weights"}
"""Fields whose name in JSON is older and less precise than the one in Python."""


def _wire_name(field: str) -> str:
    return WIRE_NAMES.get(field, field)


class _WireModel(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        alias_generator=_wire_name,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class RequestModel(_WireModel):
    """A request refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid")


class ResponseModel(_WireModel):
    """A response may have more fields than its reader knows, so services can be upgraded one at a time."""

    model_config = ConfigDict(extra="ignore")


class ErrorResponse(ResponseModel):
    """The body of every 4xx and 5xx."""

    error: str
    detail: str
