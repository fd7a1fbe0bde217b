"""Limits, id types and base classes of the contracts."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_ID_LENGTH = 128
MAX_HISTORY = 200
"""Newest items per user that are kept for the model; older ones only count as seen."""
MAX_DISLIKED = 100
"""Items per user that are kept away because the user does not want them. With more, the newest are kept."""
MAX_CANDIDATES = 1000
NUM_CANDIDATES = 200
"""Default number of items retrieved for ranking."""
MAX_TOP_K = 100
MAX_EXCLUDED = 5000
"""Items that a request may exclude, in addition to those that the user has seen."""

UserId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]

Placement = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,31}$")]
"""The name of a place that shows recommendations, such as `home` or `basket`."""
DEFAULT_PLACEMENT = "default"
EVALUATION_PLACEMENT = "evaluation"
"""Of requests that measure, and that no user sees."""

ReleaseNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

WIRE_NAMES = {"release_version": "release", "weights_hash": "weights", "weights_hashes": "weights"}
"""JSON names of fields that have a more precise name in Python."""


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
    """A request rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


class ResponseModel(_WireModel):
    """A response ignores unknown fields, so that services can be upgraded one at a time."""

    model_config = ConfigDict(extra="ignore")


class ErrorResponse(ResponseModel):
    """The body of every 4xx and 5xx."""

    error: str
    detail: str
