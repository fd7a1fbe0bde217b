"""A parquet file. Errors name the row, counted from 1."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import DataError
from training.datasets.faults import LogColumns
from training.datasets.tables import RawLog


def columns_of(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise DataError(f"this is not a parquet file: {exc}", file=path) from exc


def raw_log(path: Path, columns: LogColumns, seconds: pl.Expr, event: pl.Expr) -> RawLog:
    """`seconds` reads the column "timestamp"; `event` may read the table's own columns."""
    rows = (
        pl.scan_parquet(path, glob=False)
        .select(
            pl.col(columns.user_id).cast(pl.String).alias("user_id"),
            pl.col(columns.item_id).cast(pl.String).alias("item_id"),
            pl.col(columns.timestamp).alias("timestamp"),
            event.alias("event"),
            pl.lit(False).alias("suspect"),
        )
        .with_columns(seconds.alias("timestamp"))
    )
    checks = (
        (columns.user_id, pl.col("user_id").fill_null("") == "", "the id is empty"),
        (columns.item_id, pl.col("item_id").fill_null("") == "", "the id is empty"),
        (columns.timestamp, pl.col("timestamp").is_null(), "the value cannot be read as a timestamp"),
    )

    def explain() -> None:
        for column, fault, problem in checks:
            first = rows.with_row_index("row", offset=1).filter(fault).select("row").head(1).collect()
            if first.height:
                raise DataError(f"row {first.item()}: {problem}", file=path, column=column)

    return RawLog(path, rows, explain)


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, values) of every row, from 1."""
    yield from enumerate(pl.read_parquet(path).iter_rows(named=True), start=1)
