"""A ramped promotion: the new champion serves a share of the users, and the release before it the others.

The share is a tag of the champion in the registry, so every service agrees on it, also after a restart.
"""

import hashlib
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

RAMP_TAG = "ramp"
EVERYBODY = 100.0
BUCKETS = 10_000


class Ramp(BaseModel):
    """The tag's value. It holds while its release is the champion and `before` is the previous one."""

    model_config = ConfigDict(frozen=True)

    before: int
    """The release that serves the users whom the champion does not serve yet."""
    percent: float = Field(gt=0, lt=EVERYBODY)
    """The champion's share of the users."""
    steps: tuple[float, ...]
    """The shares on the way to everybody, ascending, in percent."""
    started: float
    """When the ramp began, in Unix time in seconds."""
    since: float
    """Since when the share is `percent`."""

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self | None:
        """From the tags of a version; None without a ramp. Raises ValueError if the tag is not a ramp."""
        text = tags.get(RAMP_TAG)
        return None if text is None else cls.model_validate_json(text)

    @property
    def next_percent(self) -> float:
        return next((step for step in self.steps if step > self.percent), EVERYBODY)


def parse_steps(text: str) -> tuple[float, ...]:
    """The shares below 100 percent of a text such as `10,50,95`; none for `100`. Raises ValueError."""
    try:
        steps = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} is not a list of percentages, such as 10,50,95") from None
    if not all(0 < step <= EVERYBODY for step in steps) or steps != sorted(set(steps)):
        raise ValueError(f"{text!r} does not ascend between 0 and 100 percent, such as 10,50,95")
    return tuple(step for step in steps if step < EVERYBODY)


def gets_champion(user_id: str, champion: int, percent: float) -> bool:
    """Whether the user gets the champion at this share: from a hash, so a larger share keeps the users of a smaller
    one. It depends on the release, so that not always the same users are the first."""
    digest = hashlib.blake2b(f"{champion}\0{user_id}".encode(), digest_size=8, person=b"ramp").digest()
    return int.from_bytes(digest, "big") % BUCKETS < percent / EVERYBODY * BUCKETS
