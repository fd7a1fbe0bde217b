"""Find the bad rows of a log. This is slow, and runs only if the fast read has found that there may be some."""

from collections.abc import Callable, Iterable, Iterator

import polars as pl

from recsys.contracts.base import MAX_ID_LENGTH
from recsys.errors import DataError
from training.datasets.bad_rows import BadRows, Fault, RawRow, Reason, too_long
from training.datasets.tables import LogBatch, LogColumns, RawLog

_BATCH = 50_000
_SHOWN = 100
"""Characters of an unreadable timestamp that an error shows."""


def reason() -> pl.Expr:
    """The first reason, as text, why a row of `RawLog.rows` is bad; null if it is good."""

    def first(*faults: tuple[pl.Expr, Reason]) -> pl.Expr:
        return pl.coalesce(*(pl.when(bad).then(pl.lit(reason.value)) for bad, reason in faults))

    user_id, item_id = (pl.col(name).fill_null("") for name in ("user_id", "item_id"))
    # Lengths are in code points, as in the contracts.
    return first(
        (user_id == "", Reason.EMPTY_USER_ID),
        (user_id.str.len_chars() > MAX_ID_LENGTH, Reason.LONG_USER_ID),
        (item_id == "", Reason.EMPTY_ITEM_ID),
        (item_id.str.len_chars() > MAX_ID_LENGTH, Reason.LONG_ITEM_ID),
        (pl.col("timestamp").is_null(), Reason.UNREADABLE_TIMESTAMP),
    )


def usable_rows(log: RawLog, bad_rows: BadRows) -> Iterator[pl.DataFrame]:
    """The good rows of the log, in batches; the others are rejected."""
    for batch in log.batches():
        reasons = batch.rows.select(reason()).to_series()
        bad = reasons.is_not_null()
        for index, found in zip(bad.arg_true(), reasons.filter(bad), strict=True):
            row = batch.raw_row(index)
            bad_rows.reject(log.file, row, row.fault or _fault(Reason(found), row, log.columns))
        yield batch.rows.filter(~bad)


def batches(
    rows: Iterable[RawRow],
    to_frame: Callable[[list[RawRow]], pl.DataFrame],
    by_column: Callable[[RawRow], RawRow] = lambda row: row,
) -> Iterator[LogBatch]:
    """Batches of rows. An error in `rows` is raised after the rows before it, so that the first error wins.

    `by_column` brings the record of a row into the form that `LogBatch` asks for. It runs for bad rows only.
    """
    batch: list[RawRow] = []

    def finished() -> LogBatch:
        return LogBatch(to_frame(batch), lambda index, batch=batch: by_column(batch[index]))  # type: ignore[misc]

    try:
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                yield finished()
                batch = []
    except DataError:
        yield finished()
        raise
    yield finished()


def _fault(reason: Reason, row: RawRow, columns: LogColumns) -> Fault:
    """What is wrong with one of the row's three values."""
    column = {
        Reason.EMPTY_USER_ID: columns.user_id,
        Reason.LONG_USER_ID: columns.user_id,
        Reason.EMPTY_ITEM_ID: columns.item_id,
        Reason.LONG_ITEM_ID: columns.item_id,
        Reason.UNREADABLE_TIMESTAMP: columns.timestamp,
    }[reason]
    value = row.record.get(column)
    if column not in row.record:
        problem = f"the value is missing; the row has {', '.join(row.record)}"
    elif reason in (Reason.EMPTY_USER_ID, Reason.EMPTY_ITEM_ID):
        problem = "the id is empty"
    elif reason in (Reason.LONG_USER_ID, Reason.LONG_ITEM_ID):
        problem = too_long(str(value))
    else:
        shown = "the value" if value is None else repr(str(value)[:_SHOWN])
        problem = f"{shown} cannot be read as a timestamp"
    return Fault(reason, problem, column, may_hide_rows=row.num_lines > 1 and "\n" in str(value))
