"""The shapes between a reader and the cleaning: an interaction log that is still raw, and the items described."""

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
    """user_id, item_id and event as String, timestamp as Int64 seconds (null: not understood), suspect as Boolean;
    in the order of the file."""
    explain: Callable[[], None]
    """Read the file again, slowly, and raise DataError at its first fault. Returns where there is none, which leaves
    blank lines as the only bad rows."""


@dataclass(frozen=True)
class RawItems:
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ITEM_SCHEMA))
    """Columns of ITEM_SCHEMA in the order of the file; an item may be here twice, and a title may be null."""
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RawTables:
    log: RawLog
    items: RawItems


class Dataset(Protocol):
    def fingerprint(self) -> dict[str, JsonValue]:
        """What the inputs are now, cheaply and without the network."""
        ...

    def open(self) -> AbstractContextManager[RawTables]:
        """The raw tables; temporary files go when the context ends."""
        ...


class Reader(Protocol):
    """One format of files in a folder."""

    def inputs(self, folder: Path) -> list[Path]:
        """The files that would be read; raises DataError where one is missing."""
        ...

    def read(self, folder: Path) -> RawTables: ...
