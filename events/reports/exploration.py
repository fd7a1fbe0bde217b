"""What the ranking is worth: the clicks per place that it earns, and those of random items of the shortlist.

Each is a self-normalised inverse-propensity estimate: the weighted share of clicked places, over all pages that could
be explored, with the weights of `events.attribution.exploration` (A. Swaminathan, T. Joachims, "The self-normalized
estimator for counterfactual learning", NIPS 2015). It takes a click to depend on the item and its place, not on the
page's other items: the item-position model of S. Li et al., "Offline evaluation of ranking policies with click models",
KDD 2018.

Users are the units of the variance, which is that of the linearised ratio. The boundary of `events.reports.confidence`
counts places, so the sums are scaled to the effective number of places, (sum of weights)^2 / (sum of squared weights)
(L. Kish, "Survey sampling", 1965): equal weights then are 1.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from events.attribution.tally import Measure
from events.reports.comparison import amount_of
from events.reports.confidence import estimate
from recsys.contracts.release_report import Estimate, ExplorationTally

SUMS = {
    "ranked": (Measure.RANKED_WEIGHT, Measure.RANKED_CLICKED, Measure.RANKED_WEIGHT_2),
    "drawn": (Measure.DRAWN_WEIGHT, Measure.DRAWN_CLICKED, Measure.DRAWN_WEIGHT_2),
}


def explorations(tallies: pl.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], ExplorationTally]:
    """By group, for those with pages that could be explored."""
    of_users = tallies.filter(pl.col("measure").is_in([each for sums in SUMS.values() for each in sums[:2]]))
    users = of_users.group_by(*by, "user_id").agg(
        amount_of(measure).alias(f"{name}_{part}")
        for name, sums in SUMS.items()
        for part, measure in zip(("weight", "clicked"), sums, strict=False)
    )
    means = users.group_by(by).agg(
        part.alias(f"{name}_{label}") for name in SUMS for label, part in _total_and_mean(name).items()
    )
    ranked, drawn = (_share_of_error(name) for name in SUMS)
    variances = (
        users.join(means, on=by, nulls_equal=True)
        .group_by(by)
        .agg(
            (ranked**2).sum().alias("ranked_variance"),
            (drawn**2).sum().alias("drawn_variance"),
            ((ranked - drawn) ** 2).sum().alias("variance"),
        )
    )
    counts = tallies.group_by(by).agg(
        amount_of(Measure.DRAWN).alias("drawn"),
        *(amount_of(sums[2]).alias(f"{name}_weight_2") for name, sums in SUMS.items()),
    )
    rows = means.join(variances, on=by, nulls_equal=True).join(counts, on=by, nulls_equal=True)
    return {tuple(row[name] for name in by): _of_group(row) for row in rows.iter_rows(named=True)}


def _total_and_mean(name: str) -> dict[str, pl.Expr]:
    total = pl.col(f"{name}_weight").sum()
    mean = pl.when(total > 0).then(pl.col(f"{name}_clicked").sum() / total).otherwise(0.0)
    return {"total": total, "mean": mean}


def _share_of_error(name: str) -> pl.Expr:
    """By user: its part of the error of the group's mean."""
    error = pl.col(f"{name}_clicked") - pl.col(f"{name}_mean") * pl.col(f"{name}_weight")
    return pl.when(pl.col(f"{name}_total") > 0).then(error / pl.col(f"{name}_total")).otherwise(0.0)


def _of_group(row: dict[str, Any]) -> ExplorationTally:
    ranked, drawn = (_effective(row[f"{name}_total"], row[f"{name}_weight_2"]) for name in SUMS)
    return ExplorationTally(
        drawn=row["drawn"],
        ranked=_estimate(row["ranked_mean"], row["ranked_variance"], ranked, low=0.0),
        random=_estimate(row["drawn_mean"], row["drawn_variance"], drawn, low=0.0),
        difference=_estimate(row["ranked_mean"] - row["drawn_mean"], row["variance"], min(ranked, drawn), low=-1.0),
    )


def _effective(weight: float, squares: float) -> float:
    return weight**2 / squares if squares else 0.0


def _estimate(mean: float, variance: float, places: float, *, low: float) -> Estimate:
    """`variance`: of the mean."""
    return estimate(mean * places, places, variance * places**2, low=low, high=1.0)
