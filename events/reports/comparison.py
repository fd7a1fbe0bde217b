"""Compares the click-through of two releases while both served.

In every slot of time, an impression of one release weighs as much as the other release's share of the slot's
impressions. So both releases count the same times, whatever part of the users each had, and times in which one of them
served alone do not count. This is the Mantel-Haenszel risk difference (S. Greenland, J. M. Robins, "Estimation of a
common effect parameter from sparse follow-up data", Biometrics 41, 1985).

Users are the units: what one user does counts as one term of the variance, however many impressions it has.
"""

from itertools import combinations
from typing import Any

import polars as pl

from events.attribution.tally import SLOT_SECONDS, Measure
from events.reports.confidence import estimate
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
        .agg(amount_of(Measure.IMPRESSIONS).alias("shown"), amount_of(Measure.CLICKED).alias("clicked"))
        .collect()
    )
    by_release = {release: shown.filter(pl.col("release") == release) for release in releases}
    newest_first = combinations(sorted(releases, reverse=True), 2)
    found = (_compared(new, old, by_release[new], by_release[old]) for new, old in newest_first)
    return [comparison for comparison in found if comparison is not None][:MAX_COMPARISONS]


def amount_of(measure: Measure) -> pl.Expr:
    return pl.col("amount").filter(pl.col("measure") == measure).sum()


def _compared(new_release: int, old_release: int, new: pl.DataFrame, old: pl.DataFrame) -> ReleaseComparison | None:
    in_both = _shown_by_slot(new, "new").join(_shown_by_slot(old, "old"), on="slot")
    if in_both.is_empty():
        return None
    slots = in_both["slot"].to_list()
    of_new, of_old = _weighted(new, in_both, "old"), _weighted(old, in_both, "new")
    weight = of_new["weight"]
    return ReleaseComparison(
        release_version=new_release,
        reference_version=old_release,
        since=min(slots),
        until=max(slots) + SLOT_SECONDS,
        users=of_new["users"],
        reference_users=of_old["users"],
        impressions=of_new["shown"],
        reference_impressions=of_old["shown"],
        clicked=of_new["clicked"],
        reference_clicked=of_old["clicked"],
        click_through=of_new["rate"],
        reference_click_through=of_old["rate"],
        difference=estimate(
            (of_new["rate"] - of_old["rate"]) * weight,
            weight,
            of_new["variance"] + of_old["variance"],
            low=-1.0,
            high=1.0,
        ),
    )


def _weighted(rows: pl.DataFrame, in_both: pl.DataFrame, other: str) -> dict[str, Any]:
    """Counts, weighted rate, and variance of the weighted clicks, where an impression weighs the share of the `other`
    release in its slot. The sum of the weights is the same for both releases."""
    value, weight = pl.col("value"), pl.col("weight")
    rate = (value.sum() / weight.sum()).clip(0, 1)
    return (
        rows.join(in_both, on="slot")
        .with_columns(weight=pl.col(other) / (pl.col("new") + pl.col("old")))
        .group_by("user_id")
        .agg(
            pl.col("shown", "clicked").sum(),
            (weight * pl.col("shown")).sum().alias("weight"),
            (weight * pl.col("clicked")).sum().alias("value"),
        )
        .select(
            pl.len().alias("users"),
            pl.col("shown", "clicked", "weight").sum(),
            rate.alias("rate"),
            ((value - rate * weight) ** 2).sum().alias("variance"),
        )
        .row(0, named=True)
    )


def _shown_by_slot(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("slot").agg(pl.col("shown").sum().alias(name))
