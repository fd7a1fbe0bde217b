"""Item descriptions and the item ids of the log -> items.parquet: one row per item, sorted by id."""

from pathlib import Path

import polars as pl

from training.datasets.tables import ITEM_SCHEMA, RawItems

TWICE = "items_described_twice"
UNDESCRIBED = "items_without_description"
UNTITLED = "items_without_title"


def write(described: RawItems, interacted: pl.Series, path: Path) -> tuple[int, dict[str, int]]:
    """Write the file; returns the number of its rows, and the warnings."""
    ids = pl.DataFrame({"item_id": interacted})
    once = described.rows.unique("item_id", keep="first", maintain_order=True)
    undescribed = ids.join(once, on="item_id", how="anti")
    items = (
        pl.concat([once, undescribed], how="diagonal")
        .with_columns(pl.coalesce("title", "item_id"), pl.col("categories").fill_null([]))
        .select(ITEM_SCHEMA.names())
        .sort("item_id")
        .match_to_schema(ITEM_SCHEMA)
    )
    items.write_parquet(path)
    found = {
        TWICE: described.rows.height - once.height,
        UNDESCRIBED: undescribed.height,
        UNTITLED: once["title"].null_count(),
    }
    return items.height, {kind: count for kind, count in found.items() if count}
