"""The columns of the event log's files, as `recsys.contracts.event_log` describes them. Times are in Unix time."""

import polars as pl

from recsys.contracts.event_log import LogTable

SCHEMAS = {
    LogTable.EVENTS: pl.Schema(
        {
            "event_id": pl.String(),
            "user_id": pl.String(),
            "item_id": pl.String(),
            "event": pl.String(),
            "value": pl.Float64(),
            "placement": pl.String(),
            "recommendation_id": pl.String(),
            "timestamp": pl.Float64(),
            "positive": pl.Boolean(),
            "server_time": pl.Float64(),
            "schema_version": pl.UInt8(),
        }
    ),
    LogTable.IMPRESSIONS: pl.Schema(
        {
            "recommendation_id": pl.String(),
            "user_id": pl.String(),
            "item_ids": pl.List(pl.String()),
            "release": pl.Int32(),
            "variant": pl.String(),
            "tier": pl.String(),
            "tier_reason": pl.String(),
            "placement": pl.String(),
            "took_ms": pl.Float64(),
            "exploration": pl.Struct(
                {
                    "explored": pl.List(pl.Boolean()),
                    "propensities": pl.List(pl.Float64()),
                    "drawn_from": pl.Int32(),
                }
            ),
            "server_time": pl.Float64(),
            "schema_version": pl.UInt8(),
        }
    ),
}
IDENTITIES = {LogTable.EVENTS: ["user_id", "event_id"], LogTable.IMPRESSIONS: ["recommendation_id"]}
"""The columns that identify a row."""
