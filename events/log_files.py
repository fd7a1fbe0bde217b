"""The event log in Parquet files: `<table>/day=<UTC date>/<bucket>-<first id>-<last id>.parquet`.

The day is that of `server_time`. The ids are those of a batch in its stream, so a batch that is written again replaces
its own files. The root is a local folder or the URL of an S3 bucket; polars reads the AWS_ variables for the latter.
"""

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError
from pydantic_core import from_json

from events.tables import IDENTITIES, SCHEMAS
from recsys.contracts.event_log import LogTable
from recsys.errors import DataError

S3 = "s3://"


class LogFiles:
    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def write(self, table: LogTable, bucket: int, first_id: str, last_id: str, entries: Sequence[str]) -> int:
        """Write a batch of JSON entries, a file per day; returns how many. They are on the disk, or in the bucket, when
        it returns. Raises OSError if they cannot be written, and DataError for an entry that is not of the table.
        """
        name = f"{bucket:02d}-{first_id}-{last_id}.parquet"
        days = _rows(table, name, entries).partition_by("day", include_key=False, as_dict=True)
        for (day,), rows in days.items():
            self._write(f"{self._folder(table, day)}/{name}", rows)
        return len(days)

    def read(self, table: LogTable, start: datetime, end: datetime) -> pl.LazyFrame:
        """The rows with a `server_time` from `start` on and before `end`, each once."""
        days = (start.astimezone(UTC).date() + timedelta(number) for number in range((end - start).days + 2))
        parts = [part for day in days if (part := self._scan(table, f"{day:%Y-%m-%d}")) is not None]
        rows = pl.concat(parts) if parts else pl.LazyFrame(schema=SCHEMAS[table])
        in_range = pl.col("server_time").is_between(start.timestamp(), end.timestamp(), closed="left")
        return _once(table, rows.filter(in_range))

    def read_before(self, table: LogTable, end: datetime) -> pl.LazyFrame:
        """All rows with a `server_time` before `end`, each once."""
        rows = self._scan(table, "*")
        if rows is None:
            return pl.LazyFrame(schema=SCHEMAS[table])
        return _once(table, rows.filter(pl.col("server_time") < end.timestamp()))

    def _scan(self, table: LogTable, day: str) -> pl.LazyFrame | None:
        """The rows of a day, or of all for `*`; None if there are no files."""
        pattern = f"{table}/day={day}/*.parquet"
        if not self._root.startswith(S3) and next(Path(self._root).glob(pattern), None) is None:
            return None
        files, schema = f"{self._root}/{pattern}", SCHEMAS[table]
        try:
            return pl.scan_parquet(files, schema=schema, missing_columns="insert", hive_partitioning=False)
        except FileNotFoundError:
            return None

    def _write(self, path: str, rows: pl.DataFrame) -> None:
        if path.startswith(S3):
            try:
                rows.write_parquet(path)  # appears when it is complete
            except PolarsError as error:
                raise OSError(f"{path} cannot be written: {error}") from error
        else:
            _write_durably(Path(path), rows)

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


def _write_durably(path: Path, rows: pl.DataFrame) -> None:
    """The file appears as a whole, and survives a power failure: what it holds is removed from Redis next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # another collector may write the same file
    with partial.open("wb") as file:
        rows.write_parquet(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for abandoned in path.parent.glob(f"{path.name}.*.partial"):  # by a collector that was killed
        abandoned.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
