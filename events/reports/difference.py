"""Compares a mean per impression of two releases while both served.

In every slot of time, an impression of one release weighs as much as the other release's share of the slot's
impressions. So both releases count the same times, whatever part of the users each had, and times in which one of them
served alone do not count. This is the Mantel-Haenszel risk difference (S. Greenland, J. M. Robins, "Estimation of a
common effect parameter from sparse follow-up data", Biometrics 41, 1985).

Users are the units: what one user does counts as one term of the variance, however many impressions it has.
"""

from typing import NamedTuple

import polars as pl

from events.reports.confidence import estimate
from recsys.contracts.release_report import Estimate


class Served(NamedTuple):
    """One of the releases, in the slots in which both served."""

    users: int
    shown: int
    """Impressions."""
    total: float
    """The sum of their values."""
    weight: float
    """The sum of their weights, which is the same for both releases."""
    mean: float
    """The weighted mean per impression."""
    variance: float
    """Of the weighted sum."""


class Difference(NamedTuple):
    new: Served
    old: Served
    first_slot: int
    last_slot: int
    estimate: Estimate
    """The mean of `new` minus that of `old`."""


def difference(new: pl.DataFrame, old: pl.DataFrame, *, low: float, high: float) -> Difference | None:
    """new, old: [slot and user] with `slot`, `user_id`, `shown` (impressions) and `value` (the sum over them).

    The difference lies in [low, high]. None if the releases never served in the same slot.
    """
    in_both = _shown_by_slot(new, "new").join(_shown_by_slot(old, "old"), on="slot")
    if in_both.is_empty():
        return None
    slots = in_both["slot"].to_list()
    of_new, of_old = _weighted(new, in_both, "old"), _weighted(old, in_both, "new")
    found = estimate(
        (of_new.mean - of_old.mean) * of_new.weight,
        of_new.weight,
        of_new.variance + of_old.variance,
        low=low,
        high=high,
    )
    return Difference(of_new, of_old, min(slots), max(slots), found)


def _weighted(rows: pl.DataFrame, in_both: pl.DataFrame, other: str) -> Served:
    """An impression weighs the share of the `other` release in its slot."""
    value, weight = pl.col("weighted"), pl.col("weight")
    mean = value.sum() / weight.sum()
    found = (
        rows.join(in_both, on="slot")
        .with_columns(weight=pl.col(other) / (pl.col("new") + pl.col("old")))
        .group_by("user_id")
        .agg(
            pl.col("shown", "value").sum(),
            (weight * pl.col("shown")).sum().alias("weight"),
            (weight * pl.col("value")).sum().alias("weighted"),
        )
        .select(
            pl.len().alias("users"),
            pl.col("shown").sum(),
            pl.col("value").sum().alias("total"),
            weight.sum(),
            mean.alias("mean"),
            ((value - mean * weight) ** 2).sum().alias("variance"),
        )
        .row(0, named=True)
    )
    return Served(**found)


def _shown_by_slot(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("slot").agg(pl.col("shown").sum().alias(name))
