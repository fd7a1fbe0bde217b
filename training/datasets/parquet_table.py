"""A parquet file. Errors name the row, counted from 1."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets.bad_rows import RawRow
from training.datasets.tables import LogBatch, LogColumns, RawLog

_BATCH = 200_000


def columns_of(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise DataError(f"this is not a parquet file: {exc}", file=path) from exc


def raw_log(path: Path, columns: LogColumns, seconds: pl.Expr, event: pl.Expr) -> RawLog:
    """`seconds` reads the column "timestamp"; `event` may read the table's own columns."""

    def ours(theirs: pl.LazyFrame, *more: pl.Expr) -> pl.LazyFrame:
        return theirs.select(
            pl.col(columns.user_id).cast(pl.String).alias("user_id"),
            pl.col(columns.item_id).cast(pl.String).alias("item_id"),
            pl.col(columns.timestamp).alias("timestamp"),
            event.alias("event"),
            *more,
        ).with_columns(seconds.alias("timestamp"))

    file = pl.scan_parquet(path, glob=False)

    def in_batches() -> Iterator[LogBatch]:
        first = 1
        theirs = file.select({*columns, *event.meta.root_names()})
        try:
            for batch in theirs.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming"):
                values = batch.select(pl.col(name).cast(pl.String) for name in columns)
                yield LogBatch(ours(batch.lazy()).collect(), _RowsFrom(first, values))
                first += batch.height
        except (pl.exceptions.PolarsError, OSError) as exc:
            raise DataError(f"the file cannot be read: {exc}", file=path) from exc

    return RawLog(path, columns, ours(file, pl.lit(False).alias("suspect")), in_batches)


class _RowsFrom:
    """Numbers the rows of a batch from `first`."""

    def __init__(self, first: int, values: pl.DataFrame) -> None:
        self._first = first
        self._values = values

    def __call__(self, index: int) -> RawRow:
        return RawRow(self._first + index, self._values.row(index, named=True))


def rows(path: Path) -> Iterator[RawRow]:
    """Every row, with its values by column."""
    for number, values in enumerate(pl.read_parquet(path).iter_rows(named=True), start=1):
        yield RawRow(number, values)
