"""What the tallies of the event log say about a ramp: the champion beside the release before it, since the ramp began.

Users are divided by a hash, so they differ only in the release that serves them. All tiers count: a lower tier is what
users of that release got.
"""

from typing import NamedTuple

import polars as pl

from events.attribution.tally import SLOT_SECONDS, Measure
from events.reports.difference import difference
from recsys.contracts.recommendation import Tier
from recsys.contracts.release_report import Estimate
from recsys.experiment import CHAMPION, HOLDBACK
from recsys.ramp import Ramp

TOOK_SCALE = 100.0
"""Milliseconds that count as 1, so that the variance is about that of clicks, for which the interval is tuned."""


class Compared(NamedTuple):
    """A mean per impression of the champion and of the release before."""

    champion: float
    before: float
    difference: Estimate
    """`champion` - `before`."""


class Evidence(NamedTuple):
    impressions: int
    """Of the champion, since the ramp began."""
    impressions_before: int
    """Of the release before."""
    impressions_of_step: int
    """Of the champion, at the present share."""
    clicked: int
    """Impressions of both with a click."""
    click_through: Compared | None
    """None until both releases served at the same time, and so are the next two."""
    lowered: Compared | None
    """Shares of impressions of a lower tier than `personalized`."""
    took: Compared | None
    """Milliseconds."""
    last_impression_at: float | None
    """The newest that was collected, in Unix time in seconds."""
    last_event_at: float | None


def gather(tallies: pl.DataFrame, ramp: Ramp) -> Evidence:
    """tallies: [rows] of `events.attribution.tally.TALLY_SCHEMA`, of the ramp's days.

    Slots of time count from the one in which the ramp began. In it, impressions of the champion before are left out.
    """
    rows = tallies.filter(pl.col("slot") >= _slot(ramp.started))
    champion = _arm(rows.filter(variant=CHAMPION).filter(pl.col("release").ne_missing(ramp.before)))
    before = _arm(rows.filter(variant=HOLDBACK))
    step = champion.filter(pl.col("slot") >= _slot(ramp.since))
    return Evidence(
        impressions=int(champion["shown"].sum()),
        impressions_before=int(before["shown"].sum()),
        impressions_of_step=int(step["shown"].sum()),
        clicked=int(champion["clicked"].sum()) + int(before["clicked"].sum()),
        click_through=_compared(champion, before, "clicked", scale=1.0, most=1.0),
        lowered=_compared(champion, before, "lowered", scale=1.0, most=1.0),
        took=_compared(champion, before, "took_ms", scale=TOOK_SCALE, most=float("inf")),
        last_impression_at=_latest(tallies, Measure.LAST_IMPRESSION),
        last_event_at=_latest(tallies, Measure.LAST_EVENT),
    )


def _slot(time: float) -> float:
    return time // SLOT_SECONDS * SLOT_SECONDS


def _arm(rows: pl.DataFrame) -> pl.DataFrame:
    """[slot and user] with `slot`, `user_id`, and sums: `shown`, `clicked`, `lowered` and `took_ms`."""
    shown = pl.col("measure") == Measure.IMPRESSIONS
    sums = {
        "shown": shown,
        "clicked": pl.col("measure") == Measure.CLICKED,
        "lowered": shown & (pl.col("tier") != Tier.PERSONALIZED),
        "took_ms": pl.col("measure") == Measure.TOOK_MS,
    }
    amounts = [pl.col("amount").filter(which).sum().alias(name) for name, which in sums.items()]
    users = rows.filter(pl.col("user_id").is_not_null()).group_by("slot", "user_id").agg(amounts)
    return users.filter(pl.col("shown") > 0)


def _compared(new: pl.DataFrame, before: pl.DataFrame, name: str, *, scale: float, most: float) -> Compared | None:
    value = (pl.col(name) / scale).alias("value")
    of_new, of_before = (arm.select("slot", "user_id", "shown", value) for arm in (new, before))
    found = difference(of_new, of_before, low=-most, high=most)
    if found is None:
        return None
    scaled = Estimate(**{bound: scale * each for bound, each in found.estimate.model_dump().items()})
    return Compared(scale * found.new.mean, scale * found.old.mean, scaled)


def _latest(tallies: pl.DataFrame, measure: Measure) -> float | None:
    times = tallies.filter(measure=measure)["amount"].to_list()
    return max(times, default=None)
