"""The raw tables that readers return: an interaction log and item descriptions."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl
from pydantic import JsonValue

ITEM_SCHEMA = pl.Schema(
    {
        "item_id": pl.String(),
        "title": pl.String(),
        "categories": pl.List(pl.String()),
        "year": pl.Int32(),
        "price": pl.Float64(),
    }
)


@dataclass(frozen=True)
class RawLog:
    file: Path
    rows: pl.LazyFrame
    """user_id, item_id and event as String, timestamp as Int64 seconds (null if unreadable), suspect as Boolean; in the
    order of the file."""
    explain: Callable[[], None]
    """Read the file again, slowly, and raise DataError for its first error. Returns if there is none; the only bad rows
    are blank lines then."""


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

    def open(self) -> AbstractContextManager[RawTables]:
        """The raw tables. Temporary files are removed when the context ends."""
        ...


class Reader(Protocol):
    """One format of files in a folder."""

    def inputs(self, folder: Path) -> list[Path]:
        """The files that `read` uses. Raises DataError if one is missing."""
        ...

    def read(self, folder: Path) -> RawTables: ...
