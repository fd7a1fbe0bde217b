"""The prepared catalogue in the order of the item indices."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from training.datasets.tables import ITEM_SCHEMA


def read_catalogue(items_parquet: Path, item_ids: Sequence[str]) -> pl.DataFrame:
    """The columns of ITEM_SCHEMA; row r describes item_ids[r]. A missing column is null."""
    order = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
    items = order.join(pl.read_parquet(items_parquet), on="item_id", how="left", maintain_order="left")
    columns = [
        (pl.col(name) if name in items.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in ITEM_SCHEMA.items()
    ]
    return items.select(columns).with_columns(pl.col("categories").fill_null([]))
