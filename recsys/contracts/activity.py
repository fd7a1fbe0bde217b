"""How often items were used lately, on the way from the feature store to the rankers: sums per UTC day, which fade."""

from pydantic import Field

from recsys.contracts.base import ResponseModel

DAY = 86_400
"""Seconds."""
HALF_LIVES = (7.0, 30.0)
"""Days. A use of an item counts half as much after every half-life, so there is a sum for each of them."""
ACTIVITY_DAYS = 30
"""Days before today whose events are counted. A release whose log ends earlier misses what was between."""


def day_of(moment: float) -> int:
    """The UTC day of a Unix time, counted from 1970-01-01."""
    return int(moment // DAY)


def weights_in_day(second: int) -> tuple[float, ...]:
    """What an event weighs in the sums of its day, by half-life: 1 at midnight, and more the later it is.

    Forward decay (Cormode et al., "Forward Decay", ICDE 2009), so that a sum never has to be refreshed.
    """
    return tuple(2.0 ** (second % DAY / DAY / half_life) for half_life in HALF_LIVES)


class ActiveDay(ResponseModel):
    day: int = Field(description="The UTC day, counted from 1970-01-01.")
    events: int = Field(description="How many events of it are counted. It changes whenever the day does.")


class ActiveDays(ResponseModel):
    days: list[ActiveDay] = Field(description="The days with events, oldest first.")


class DayActivity(ResponseModel):
    """The uses of items in a UTC day. Repeats of an item by a user in a row are one use, as in training."""

    day: int = Field(description="The UTC day, counted from 1970-01-01.")
    events: int
    first: int = Field(description="Unix time of the first event.")
    last: int = Field(description="Unix time of the last event.")
    totals: list[float] = Field(description="By half-life: the sum over all events, also those of items left out.")
    item_ids: list[str] = Field(description="In no particular order. A day with very many items leaves some out.")
    item_first: list[int] = Field(description="By item: Unix time of the first event.")
    weights: list[list[float]] = Field(description="By half-life and item: the sum over the item's events.")


class DayAnswer(ResponseModel):
    activity: DayActivity | None
