"""A delimited interaction log as a raw log: read lazily, or line by line to find bad rows."""

from collections.abc import Iterator

import polars as pl

from recsys.errors import DataError
from training.datasets.bad_rows import RawRow
from training.datasets.faults import batches
from training.datasets.tables import LogBatch, LogColumns, RawLog
from training.datasets.text_table import TextTable


def raw_log(table: TextTable, columns: LogColumns, seconds: pl.Expr, event: pl.Expr) -> RawLog:
    """`seconds` reads the column "timestamp"; `event` may read the table's own columns."""
    table.require(*columns)
    if next(table.rows(), None) is None:
        raise DataError("the file has no rows", file=table.path)

    def ours(theirs: pl.LazyFrame, *more: pl.Expr) -> pl.LazyFrame:
        return theirs.select(
            pl.col(columns.user_id).alias("user_id"),
            pl.col(columns.item_id).alias("item_id"),
            pl.col(columns.timestamp).alias("timestamp"),
            event.alias("event"),
            *more,
        ).with_columns(seconds.alias("timestamp"))

    places = {name: table.columns.index(name) for name in (*columns, *event.meta.root_names())}

    def to_frame(rows: list[RawRow]) -> pl.DataFrame:
        theirs = {name: [None if row.fault else row.record[place] for row in rows] for name, place in places.items()}
        return ours(pl.LazyFrame(theirs, schema=dict.fromkeys(places, pl.String))).collect()

    def by_column(row: RawRow) -> RawRow:
        return row if row.fault else row._replace(record=dict(zip(table.columns, row.record, strict=True)))

    def in_batches() -> Iterator[LogBatch]:
        return batches(table.rows(), to_frame, by_column)

    # In a record with too few fields the last ones are empty, so an empty last field is suspect. polars notices a
    # record with too many fields only if all columns are selected; text is never null, so `is_null` just selects them.
    torn = (pl.col(table.columns[-1]) == "") | pl.any_horizontal(pl.all().is_null())
    return RawLog(table.path, columns, ours(table.scan(), torn.alias("suspect")), in_batches)
