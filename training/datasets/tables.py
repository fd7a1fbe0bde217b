"""The raw tables that readers return: an interaction log and item descriptions."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl
from pydantic import JsonValue

from training.datasets.bad_rows import BadRows, RawRow

ITEM_SCHEMA = pl.Schema(
    {
        "item_id": pl.String(),
        "title": pl.String(),
        "categories": pl.List(pl.String()),
        "year": pl.Int32(),
        "price": pl.Float64(),
    }
)


class LogColumns(NamedTuple):
    """The names of our columns in one file."""

    user_id: str
    item_id: str
    timestamp: str


class LogBatch(NamedTuple):
    """Consecutive rows of a log. Blank lines are no rows."""

    rows: pl.DataFrame
    """user_id, item_id, timestamp and event, as in `RawLog.rows`; a row that could not be read has null ids."""
    raw_row: Callable[[int], RawRow]
    """The row at an index of `rows`, as it was read, with its values by column if it could be read."""


@dataclass(frozen=True)
class RawLog:
    file: Path
    columns: LogColumns
    rows: pl.LazyFrame
    """user_id, item_id and event as String, timestamp as Int64 seconds (null if unreadable), suspect as Boolean; in the
    order of the file. If polars cannot read the file, or a row is suspect, `batches` decides."""
    batches: Callable[[], Iterator[LogBatch]]
    """Read the file again, slowly but completely. Raises DataError if it cannot be read."""


@dataclass(frozen=True)
class RawItems:
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ITEM_SCHEMA))
    """The columns of ITEM_SCHEMA in the order of the file. Items may occur twice, and titles may be null."""
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RawTables:
    log: RawLog
    items: RawItems


class Dataset(Protocol):
    def fingerprint(self) -> dict[str, JsonValue]:
        """Identifies the current inputs. It is cheap and needs no network."""
        ...

    def open(self, bad_rows: BadRows) -> AbstractContextManager[RawTables]:
        """The raw tables, without the bad items. Temporary files are removed when the context ends."""
        ...


class Reader(Protocol):
    """One format of files in a folder."""

    def inputs(self, folder: Path) -> list[Path]:
        """The files that `read` uses. Raises DataError if one is missing."""
        ...

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        """The raw tables, without the bad items."""
        ...
