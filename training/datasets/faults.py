"""Find the first invalid line of a log. This is slow, and runs only after the fast read has found an error."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recsys.errors import DataError

_BATCH = 50_000


class LogColumns(NamedTuple):
    """The names of our columns in one file."""

    user_id: str
    item_id: str
    timestamp: str


class LogLine(NamedTuple):
    line: int
    user_id: str | None
    item_id: str | None
    timestamp: str | None


def raise_first_fault(file: Path, lines: Iterable[LogLine], columns: LogColumns, seconds: pl.Expr) -> None:
    """Raise DataError for the first line with an empty id, or with a timestamp that `seconds` cannot read."""
    for batch in _batches(iter(lines)):
        parsed = pl.DataFrame({"timestamp": [line.timestamp for line in batch]}, schema={"timestamp": pl.String})
        for line, second in zip(batch, parsed.select(seconds).to_series(), strict=True):
            if not line.user_id:
                raise DataError("the id is empty", file=file, line=line.line, column=columns.user_id)
            if not line.item_id:
                raise DataError("the id is empty", file=file, line=line.line, column=columns.item_id)
            if second is None:
                problem = f"{line.timestamp!r} cannot be read as a timestamp"
                raise DataError(problem, file=file, line=line.line, column=columns.timestamp)


def _batches(lines: Iterator[LogLine]) -> Iterator[list[LogLine]]:
    """Batches of lines. An error in `lines` is raised after the lines before it, so that the first error wins."""
    batch: list[LogLine] = []
    try:
        for line in lines:
            batch.append(line)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    except DataError:
        yield batch
        raise
    yield batch
