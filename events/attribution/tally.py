"""Counts of one day's impressions and of what followed them, in one long table, so that days can be added up."""

from enum import StrEnum

import polars as pl

from events.attribution.attribute import AttributionRules, attributed, positions
from events.attribution.exploration import weighted_places
from recsys.contracts.base import EVALUATION_PLACEMENT
from recsys.contracts.release_report import MAX_POSITIONS

SLOT_SECONDS = 600
"""Times are rounded down to this many seconds, to compare releases at the same times."""
SEGMENT = ["release", "variant", "placement", "tier"]


class Measure(StrEnum):
    """What a row counts, and by which further columns."""

    IMPRESSIONS = "impressions"
    """By slot and user."""
    CLICKED = "clicked"
    """Impressions with a click, a positive event, by slot and user."""
    TOOK_MS = "took_ms"
    """Milliseconds that impressions took, by slot and user."""
    CONVERTED = "converted"
    """Impressions with an event, by its kind and user."""
    SHOWN_AT = "shown_at"
    """Impressions, by position."""
    CLICKED_AT = "clicked_at"
    """Impressions whose item at the position was clicked, by position."""
    SHOWN_ITEM = "shown_item"
    """Impressions, by item."""
    RANKED_WEIGHT = "ranked_weight"
    DRAWN_WEIGHT = "drawn_weight"
    """Weights of the places, of pages that could be explored, that showed the ranker's choice or a draw; by user."""
    RANKED_CLICKED = "ranked_clicked"
    DRAWN_CLICKED = "drawn_clicked"
    """The weights of those whose item was clicked, by user."""
    RANKED_WEIGHT_2 = "ranked_weight_2"
    DRAWN_WEIGHT_2 = "drawn_weight_2"
    """The squares of their weights."""
    DRAWN = "drawn"
    """Places that showed a draw."""
    ATTRIBUTED = "attributed"
    """Distinct events that were attributed, in all."""
    EVENTS = "events"
    """Events of the day with a recommendation_id, in all."""
    LAST_IMPRESSION = "last_impression"
    LAST_EVENT = "last_event"
    """When the newest was recorded, in Unix time in seconds."""


TALLY_SCHEMA = pl.Schema(
    {
        "measure": pl.String(),
        "release": pl.Int32(),
        "variant": pl.String(),
        "placement": pl.String(),
        "tier": pl.String(),
        "slot": pl.Int64(),
        "user_id": pl.String(),
        "event": pl.String(),
        "position": pl.Int32(),
        "item_id": pl.String(),
        "amount": pl.Float64(),
    }
)


def tally(
    impressions: pl.LazyFrame, events: pl.LazyFrame, later_events: pl.LazyFrame, rules: AttributionRules
) -> pl.DataFrame:
    """[rows] of TALLY_SCHEMA, without impressions of the placement `evaluation`.

    impressions and events: those of a day, each once. later_events: those of the next day that may follow its
    impressions.
    """
    slot = (pl.col("server_time") // SLOT_SECONDS * SLOT_SECONDS).cast(pl.Int64).alias("slot")
    shown = impressions.filter(pl.col("placement") != EVALUATION_PLACEMENT).with_columns(slot).collect()
    conversions = attributed(shown.lazy(), pl.concat([events, later_events]), rules)
    clicks = conversions.filter("positive")
    of_pages = shown.select("recommendation_id", *SEGMENT, "slot", "user_id")

    def of(rows: pl.DataFrame, *identity: str) -> pl.DataFrame:
        return rows.unique(["recommendation_id", *identity]).join(of_pages, on="recommendation_id")

    places = weighted_places(shown, clicks, SEGMENT)
    ranked, drawn = places.filter(~pl.col("explored")), places.filter("explored")
    first_positions = shown.select(*SEGMENT, positions().list.head(MAX_POSITIONS).alias("position"))
    parts = [
        _count(Measure.IMPRESSIONS, shown, "slot", "user_id"),
        _count(Measure.CLICKED, of(clicks), "slot", "user_id"),
        _sum(Measure.TOOK_MS, shown, "took_ms", "slot", "user_id"),
        _count(Measure.CONVERTED, of(conversions, "event"), "user_id", "event"),
        _count(Measure.SHOWN_AT, first_positions.explode("position").drop_nulls("position"), "position"),
        _count(Measure.CLICKED_AT, of(clicks, "position").filter(pl.col("position") <= MAX_POSITIONS), "position"),
        _count(
            Measure.SHOWN_ITEM,
            shown.select(*SEGMENT, item_id="item_ids").explode("item_id").drop_nulls("item_id"),
            "item_id",
        ),
        _sum(Measure.RANKED_WEIGHT, ranked, "weight", "user_id"),
        _sum(Measure.RANKED_CLICKED, ranked, "weight_clicked", "user_id"),
        _sum(Measure.RANKED_WEIGHT_2, ranked, "weight_2"),
        _sum(Measure.DRAWN_WEIGHT, drawn, "weight", "user_id"),
        _sum(Measure.DRAWN_CLICKED, drawn, "weight_clicked", "user_id"),
        _sum(Measure.DRAWN_WEIGHT_2, drawn, "weight_2"),
        _count(Measure.DRAWN, drawn),
        _total(Measure.ATTRIBUTED, len(conversions)),
        *_of_events(events),
        *_latest(Measure.LAST_IMPRESSION, shown.select(pl.col("server_time").max()).item()),
    ]
    return pl.concat(parts, how="diagonal_relaxed").match_to_schema(TALLY_SCHEMA, missing_columns="insert")


def _count(measure: Measure, rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    counts = rows.group_by(*SEGMENT, *by).agg(pl.len().cast(pl.Float64).alias("amount"))
    return counts.select(pl.lit(str(measure)).alias("measure"), pl.all()).sort(*SEGMENT, *by, nulls_last=True)


def _sum(measure: Measure, rows: pl.DataFrame, value: str, *by: str) -> pl.DataFrame:
    sums = rows.group_by(*SEGMENT, *by).agg(pl.col(value).sum().alias("amount"))
    return sums.select(pl.lit(str(measure)).alias("measure"), pl.all()).sort(*SEGMENT, *by, nulls_last=True)


def _of_events(events: pl.LazyFrame) -> list[pl.DataFrame]:
    with_id = pl.col("recommendation_id").is_not_null().sum()
    found = events.select(with_id.alias("with_id"), pl.col("server_time").max().alias("latest")).collect()
    return [_total(Measure.EVENTS, found["with_id"].item()), *_latest(Measure.LAST_EVENT, found["latest"].item())]


def _latest(measure: Measure, time: float | None) -> list[pl.DataFrame]:
    return [] if time is None else [_total(measure, time)]


def _total(measure: Measure, amount: float) -> pl.DataFrame:
    return pl.DataFrame({"measure": [str(measure)], "amount": [float(amount)]})
