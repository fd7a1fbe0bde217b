"""Compares the click-through of every two releases that served at the same time."""

from itertools import combinations

import polars as pl

from events.attribution.tally import SLOT_SECONDS, Measure
from events.reports.difference import difference
from recsys.contracts.recommendation import Tier
from recsys.contracts.release_report import MAX_COMPARISONS, ReleaseComparison

MADE_BY_RELEASE = (Tier.PERSONALIZED, Tier.RETRIEVED)
"""Lower tiers show the same to the users of both releases, or the lists of an earlier one."""


def compare(tallies: pl.DataFrame, releases: list[int]) -> list[ReleaseComparison]:
    """Every two of these releases that served at the same time, at most MAX_COMPARISONS, the newest first."""
    shown = (
        tallies.lazy()
        .filter(pl.col("measure").is_in([Measure.IMPRESSIONS, Measure.CLICKED]), pl.col("tier").is_in(MADE_BY_RELEASE))
        .group_by("release", "slot", "user_id")
        .agg(amount_of(Measure.IMPRESSIONS).alias("shown"), amount_of(Measure.CLICKED).alias("value"))
        .collect()
    )
    by_release = {release: shown.filter(pl.col("release") == release) for release in releases}
    newest_first = combinations(sorted(releases, reverse=True), 2)
    found = (_compared(new, old, by_release[new], by_release[old]) for new, old in newest_first)
    return [comparison for comparison in found if comparison is not None][:MAX_COMPARISONS]


def amount_of(measure: Measure) -> pl.Expr:
    return pl.col("amount").filter(pl.col("measure") == measure).sum()


def _compared(new_release: int, old_release: int, new: pl.DataFrame, old: pl.DataFrame) -> ReleaseComparison | None:
    found = difference(new, old, low=-1.0, high=1.0)
    if found is None:
        return None
    return ReleaseComparison(
        release_version=new_release,
        reference_version=old_release,
        since=found.first_slot,
        until=found.last_slot + SLOT_SECONDS,
        users=found.new.users,
        reference_users=found.old.users,
        impressions=found.new.shown,
        reference_impressions=found.old.shown,
        clicked=int(found.new.total),
        reference_clicked=int(found.old.total),
        click_through=min(1.0, found.new.mean),
        reference_click_through=min(1.0, found.old.mean),
        difference=found.estimate,
    )
