"""The event log in Parquet files: `<table>/day=<UTC date>/<bucket>-<milliseconds>-<first id>-<last id>.parquet`.

The day is that of `server_time`, and the milliseconds are those of the earliest one in the file. The ids are those of a
batch in its stream, so a batch that is written again replaces its own files. The root is a local folder or the URL of
an S3 bucket; polars reads the AWS_ variables for the latter.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from math import floor
from pathlib import Path
from typing import cast

import polars as pl
from polars.exceptions import PolarsError
from pydantic_core import from_json

from events.parquet_files import S3, write_parquet
from events.tables import IDENTITIES, SCHEMAS
from recsys.contracts.event_log import LogTable
from recsys.errors import DataError


class LogFiles:
    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def write(self, table: LogTable, bucket: int, first_id: str, last_id: str, entries: Sequence[str]) -> int:
        """Write a batch of JSON entries, a file per day; returns how many. They are on the disk, or in the bucket, when
        it returns. Raises OSError if they cannot be written, and DataError for an entry that is not of the table.
        """
        batch = f"{first_id}-{last_id}"
        found = _rows(table, f"{table}, bucket {bucket}, entries {batch}", entries)
        days = found.partition_by("day", include_key=False, as_dict=True)
        for (day,), rows in days.items():
            earliest = floor(cast("float", rows["server_time"].min()) * 1000)
            write_parquet(f"{self._folder(table, day)}/{bucket:02d}-{earliest}-{batch}.parquet", rows)
        return len(days)

    def read(self, table: LogTable, start: datetime, end: datetime) -> pl.LazyFrame:
        """The rows with a `server_time` from `start` on and before `end`, each once."""
        return _once(table, self._in_range(table, start, end))

    def count(self, table: LogTable, start: datetime, end: datetime) -> int:
        """The number of rows in that range; one that was logged twice counts twice."""
        return int(self._in_range(table, start, end).select(pl.len()).collect().item())

    def read_before(self, table: LogTable, end: datetime) -> pl.LazyFrame:
        """All rows with a `server_time` before `end`, each once."""
        rows = self._scan(table, "*")
        if rows is None:
            return pl.LazyFrame(schema=SCHEMAS[table])
        return _once(table, rows.filter(pl.col("server_time") < end.timestamp()))

    def names(self, table: LogTable, day: date) -> list[str]:
        """The names of a day's files, in order. In S3, this reads the end of each file."""
        folder = self._folder(table, day)
        if not self._root.startswith(S3):
            return sorted(path.name for path in Path(folder).glob("*.parquet"))
        files = pl.scan_parquet(
            f"{folder}/*.parquet", schema=SCHEMAS[table], missing_columns="insert", include_file_paths="file"
        )
        paths = files.select(pl.col("file").unique()).collect()["file"].to_list()
        return sorted(path.rpartition("/")[2] for path in paths)

    def read_named(self, table: LogTable, day: date, names: Sequence[str]) -> pl.LazyFrame:
        """The rows of these files of a day, each once."""
        if not names:
            return pl.LazyFrame(schema=SCHEMAS[table])
        return _once(table, self._scan_files(table, [f"{self._folder(table, day)}/{name}" for name in names]))

    def _in_range(self, table: LogTable, start: datetime, end: datetime) -> pl.LazyFrame:
        days = (start.astimezone(UTC).date() + timedelta(number) for number in range((end - start).days + 2))
        parts = [part for day in days if (part := self._scan(table, f"{day:%Y-%m-%d}")) is not None]
        rows = pl.concat(parts) if parts else pl.LazyFrame(schema=SCHEMAS[table])
        return rows.filter(pl.col("server_time").is_between(start.timestamp(), end.timestamp(), closed="left"))

    def _scan(self, table: LogTable, day: str) -> pl.LazyFrame | None:
        """The rows of a day, or of all for `*`; None if there are no files."""
        pattern = f"{table}/day={day}/*.parquet"
        if not self._root.startswith(S3) and next(Path(self._root).glob(pattern), None) is None:
            return None
        try:
            return self._scan_files(table, f"{self._root}/{pattern}")
        except FileNotFoundError:
            return None

    def _scan_files(self, table: LogTable, files: str | list[str]) -> pl.LazyFrame:
        return pl.scan_parquet(files, schema=SCHEMAS[table], missing_columns="insert", hive_partitioning=False)

    def _folder(self, table: LogTable, day: date) -> str:
        return f"{self._root}/{table}/day={day:%Y-%m-%d}"


def _once(table: LogTable, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.unique(IDENTITIES[table], keep="first", maintain_order=True)


def _rows(table: LogTable, name: str, entries: Sequence[str]) -> pl.DataFrame:
    try:
        rows = pl.from_dicts([from_json(entry) for entry in entries], schema=SCHEMAS[table])
        if rows["server_time"].has_nulls():
            raise ValueError("it has no server_time")
    except (ValueError, TypeError, AttributeError, PolarsError) as error:
        raise DataError(f"an entry is not one of {table}: {error}", file=name) from error
    day = pl.from_epoch(pl.col("server_time").floor().cast(pl.Int64)).dt.date()
    return rows.with_columns(day.alias("day"))
