"""A delimited interaction log as a raw log: read lazily, and line by line to find an error."""

from collections.abc import Iterator

import polars as pl

from recsys.errors import DataError
from training.datasets.faults import LogColumns, LogLine, raise_first_fault
from training.datasets.tables import RawLog
from training.datasets.text_table import TextTable


def raw_log(table: TextTable, columns: LogColumns, seconds: pl.Expr, event: pl.Expr) -> RawLog:
    """`seconds` reads the column "timestamp"; `event` may read the table's own columns."""
    table.require(*columns)
    if next(table.records(), None) is None:
        raise DataError("the file has no rows", file=table.path)

    def lines() -> Iterator[LogLine]:
        user, item, timestamp = (table.columns.index(name) for name in columns)
        for line, fields in table.records():
            yield LogLine(line, fields[user], fields[item], fields[timestamp])

    # In a record with too few fields the last ones are empty, so an empty last field is suspect. polars notices a
    # record with too many fields only if all columns are selected; text is never null, so `is_null` just selects them.
    torn = (pl.col(table.columns[-1]) == "") | pl.any_horizontal(pl.all().is_null())
    rows = (
        table.scan()
        .select(
            pl.col(columns.user_id).alias("user_id"),
            pl.col(columns.item_id).alias("item_id"),
            pl.col(columns.timestamp).alias("timestamp"),
            event.alias("event"),
            torn.alias("suspect"),
        )
        .with_columns(seconds.alias("timestamp"))
    )
    return RawLog(table.path, rows, lambda: raise_first_fault(table.path, lines(), columns, seconds))
