"""Attributes events to the impressions that they followed. Pure functions over frames of the event log's tables."""

from dataclasses import dataclass

import polars as pl

DEFAULT_WINDOW_SECONDS = 30 * 60.0
MAX_WINDOW_SECONDS = 24 * 3600.0
"""So that the events of a day's impressions are in the files of that day and the next."""


@dataclass(frozen=True, slots=True)
class AttributionRules:
    window_seconds: float = DEFAULT_WINDOW_SECONDS
    """How long after an impression, by the services' clocks, an event belongs to it."""


def attributed(impressions: pl.LazyFrame, events: pl.LazyFrame, rules: AttributionRules) -> pl.DataFrame:
    """[conversions]: recommendation_id, event, item_id, position and positive, each recommendation, item and kind once.

    An event belongs to the impression of its recommendation_id if the item was on the page and the event came within
    the window, both ends included. impressions: each id once.
    """
    of_pages = events.filter(pl.col("recommendation_id").is_not_null()).select(
        "recommendation_id",
        "item_id",
        "event",
        pl.col("positive").fill_null(True),  # of a log that does not say it
        pl.col("server_time").alias("at"),
    )
    shown = (
        impressions.join(of_pages, on="recommendation_id", how="semi")
        .select("recommendation_id", "server_time", "item_ids", positions().alias("position"))
        .explode("item_ids", "position")
        .rename({"item_ids": "item_id"})
        .unique(["recommendation_id", "item_id"], keep="first", maintain_order=True)
    )
    return (
        of_pages.join(shown, on=["recommendation_id", "item_id"])
        .filter((pl.col("at") - pl.col("server_time")).is_between(0, rules.window_seconds))
        .group_by("recommendation_id", "event", "item_id", "position")
        .agg(pl.col("positive").any())
        .collect()
    )


def positions() -> pl.Expr:
    """For each impression the positions of its items, from 1."""
    return pl.int_ranges(1, pl.col("item_ids").list.len() + 1, dtype=pl.Int32)
