"""The record that a release was taken back. Without FORCE, it is not promoted again."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys import clock
from recsys.errors import ReleaseRefused

ROLLED_BACK_TAG = "rolled_back"


class RolledBack(BaseModel):
    """The tag's value."""

    model_config = ConfigDict(frozen=True)

    reason: str
    at: float
    """Seconds since 1970."""

    @classmethod
    def now(cls, reason: str | None) -> "RolledBack":
        return cls(reason=reason or "no REASON was given", at=clock.now())

    def __str__(self) -> str:
        return f"rolled back on {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M} UTC: {self.reason}"


def rolled_back(tags: Mapping[str, str]) -> RolledBack | None:
    """The record among the tags of a version; None if it was not rolled back."""
    try:
        return RolledBack.model_validate_json(tags[ROLLED_BACK_TAG])
    except KeyError:
        return None
    except ValidationError:  # the tag was set by hand
        return RolledBack(reason=tags[ROLLED_BACK_TAG], at=0.0)


def require_not_rolled_back(version: int, tags: Mapping[str, str]) -> None:
    """Raises ReleaseRefused, with the reason, if the version was rolled back."""
    record = rolled_back(tags)
    if record is not None:
        raise ReleaseRefused(f"version {version} was {record}; FORCE=1 promotes it again")
