"""Builds the report on releases from the tallies of its days."""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from events.attribution.attribute import AttributionRules
from events.attribution.tally import SEGMENT, Measure
from events.reports.comparison import amount_of, compare
from events.reports.confidence import estimate
from events.reports.exploration import explorations
from recsys.contracts.release_report import (
    MAX_KINDS,
    MAX_RELEASES,
    MAX_TALLIES,
    Estimate,
    KindTally,
    PositionTally,
    ReleasesReport,
    ReleaseTally,
)
from recsys.experiment import CHALLENGER, Experiment, sample_ratio_p_value


def build_report(
    tallies: pl.DataFrame,
    rules: AttributionRules,
    experiment: Experiment,
    *,
    first_day: date,
    last_day: date,
    computed_at: float,
) -> ReleasesReport:
    """tallies: [rows] of `events.attribution.tally.TALLY_SCHEMA`, of all days together.

    experiment: that of `last_day`.
    """
    releases = _of_segments(tallies, ["release"])
    by_segment = _of_segments(tallies, SEGMENT)
    newest_first = sorted(releases, key=lambda each: -(each.release_version or 0))[:MAX_RELEASES]
    return ReleasesReport(
        computed_at=computed_at,
        first_day=first_day.isoformat(),
        last_day=last_day.isoformat(),
        window_seconds=rules.window_seconds,
        last_impression_at=_latest(tallies, Measure.LAST_IMPRESSION),
        last_event_at=_latest(tallies, Measure.LAST_EVENT),
        events=_total(tallies, Measure.EVENTS),
        attributed=_total(tallies, Measure.ATTRIBUTED),
        releases=newest_first,
        tallies=sorted(by_segment, key=lambda each: -each.impressions)[:MAX_TALLIES],
        left_out=max(0, len(by_segment) - MAX_TALLIES),
        comparisons=compare(tallies, [each.release_version for each in newest_first if each.release_version]),
        sample_ratio_p_value=_sample_ratio(tallies, experiment, last_day),
    )


def _sample_ratio(tallies: pl.DataFrame, experiment: Experiment, day: date) -> float | None:
    """The p-value of the day's users per arm. A holdback is a part of the champion's arm."""
    if not experiment.runs:
        return None
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    of_day = tallies.filter(pl.col("measure") == Measure.IMPRESSIONS, pl.col("slot") >= midnight)
    challenged = pl.col("variant") == CHALLENGER
    users = of_day.select(
        pl.col("user_id").filter(~challenged).n_unique().alias("others"),
        pl.col("user_id").filter(challenged).n_unique().alias("challenger"),
    ).row(0)
    share = experiment.challenger_percent / 100
    return sample_ratio_p_value(users, [1 - share, share])


def _of_segments(tallies: pl.DataFrame, by: Sequence[str]) -> list[ReleaseTally]:
    """A tally for each combination of the columns `by`; the other columns of a segment are null."""
    users = (
        tallies.filter(pl.col("measure").is_in([Measure.IMPRESSIONS, Measure.CLICKED]))
        .group_by(*by, "user_id")
        .agg(amount_of(Measure.IMPRESSIONS).alias("shown"), amount_of(Measure.CLICKED).alias("converted"))
    )
    kinds, pages = _by_kind(tallies, users, by), _by_position(tallies, by)
    items, explored = _by_item(tallies, by), explorations(tallies, by)
    found = []
    for row in _sums(users, by).sort(*by, nulls_last=True).iter_rows(named=True):
        key = tuple(row[name] for name in by)
        items_shown, entropy = items.get(key, (0, 0.0))
        segment = dict.fromkeys(SEGMENT) | dict(zip(by, key, strict=True))
        found.append(
            ReleaseTally(
                release_version=segment.pop("release"),
                **segment,
                users=row["users"],
                impressions=row["shown"],
                clicked=row["converted"],
                click_through=_rate(row),
                exploration=explored.get(key),
                conversions=[
                    KindTally(event=kind["event"], impressions=kind["converted"], rate=_rate(kind))
                    for kind in kinds.get(key, [])[:MAX_KINDS]
                ],
                positions=pages.get(key, []),
                items_shown=items_shown,
                diversity=min(1.0, entropy / math.log(items_shown)) if items_shown > 1 else 0.0,
            )
        )
    return found


def _rate(row: dict[str, Any]) -> Estimate:
    """Users are the units: each is one term of the variance, of its conversions minus those expected of it."""
    rate = row["converted"] / row["shown"]
    variance = row["converted_2"] - 2 * rate * row["converted_shown"] + rate**2 * row["shown_2"]
    return estimate(row["converted"], row["shown"], max(0.0, variance), low=0.0, high=1.0)


def _sums(users: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Sums, and sums of squares and products, over the users of each group."""
    shown, converted = pl.col("shown"), pl.col("converted")
    return users.group_by(by).agg(
        pl.len().alias("users"),
        shown.sum(),
        converted.sum(),
        (shown**2).sum().alias("shown_2"),
        (converted**2).sum().alias("converted_2"),
        (shown * converted).sum().alias("converted_shown"),
    )


Key = tuple[Any, ...]


def _by_kind(tallies: pl.DataFrame, users: pl.DataFrame, by: Sequence[str]) -> dict[Key, list[dict[str, Any]]]:
    """By group: what `_rate` needs for each kind of event, those with the most conversions first."""
    of_users = (
        tallies.filter(pl.col("measure") == Measure.CONVERTED)
        .group_by(*by, "event", "user_id")
        .agg(pl.col("amount").sum().alias("converted"))
        .join(users.drop("converted"), on=[*by, "user_id"], nulls_equal=True)
    )
    everybody = _sums(users, by).select(*by, "shown", "shown_2")
    return _grouped(
        _sums(of_users, [*by, "event"])
        .drop("shown", "shown_2")
        .join(everybody, on=by, nulls_equal=True)
        .sort("converted", "event", descending=[True, False]),
        by,
    )


def _by_position(tallies: pl.DataFrame, by: Sequence[str]) -> dict[Key, list[PositionTally]]:
    rows = (
        tallies.filter(pl.col("measure").is_in([Measure.SHOWN_AT, Measure.CLICKED_AT]))
        .group_by(*by, "position")
        .agg(amount_of(Measure.SHOWN_AT).alias("impressions"), amount_of(Measure.CLICKED_AT).alias("clicked"))
        .sort("position")
    )
    return {key: [PositionTally.model_validate(row) for row in group] for key, group in _grouped(rows, by).items()}


def _by_item(tallies: pl.DataFrame, by: Sequence[str]) -> dict[Key, tuple[int, float]]:
    """By group: how many items were shown, and the entropy of how often each was, in nats."""
    rows = (
        tallies.filter(pl.col("measure") == Measure.SHOWN_ITEM)
        .group_by(*by, "item_id")
        .agg(pl.col("amount").sum())
        .group_by(by)
        .agg(pl.len().alias("items"), pl.col("amount").sort().entropy(base=math.e).alias("entropy"))
    )
    return {tuple(row[:-2]): (row[-2], row[-1]) for row in rows.select(*by, "items", "entropy").iter_rows()}


def _grouped(rows: pl.DataFrame, by: Sequence[str]) -> dict[Key, list[dict[str, Any]]]:
    groups: dict[Key, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def _total(tallies: pl.DataFrame, measure: Measure) -> int:
    return int(tallies.select(amount_of(measure)).item())


def _latest(tallies: pl.DataFrame, measure: Measure) -> float | None:
    return max(tallies.filter(pl.col("measure") == measure)["amount"].to_list(), default=None)
