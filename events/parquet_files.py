"""Parquet files in a folder or in an S3 bucket, each of which appears as a whole."""

import os
import uuid
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

S3 = "s3://"


def write_parquet(path: str, rows: pl.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a file, replacing an existing one. It is on the disk, or in the bucket, when this returns.

    Raises OSError if it cannot be written.
    """
    if not path.startswith(S3):
        _write_durably(Path(path), rows, metadata)
        return
    try:
        rows.write_parquet(path, metadata=metadata)  # appears when it is complete
    except PolarsError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def read_metadata(path: str) -> dict[str, str]:
    """What `write_parquet` kept with a file; empty if there is no readable one."""
    try:
        return pl.read_parquet_metadata(path)
    except (OSError, PolarsError):
        return {}


def _write_durably(path: Path, rows: pl.DataFrame, metadata: dict[str, str] | None) -> None:
    """The file survives a power failure: what it holds may be removed elsewhere next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # another process may write the same file
    with partial.open("wb") as file:
        rows.write_parquet(file, metadata=metadata)
        file.flush()
        os.fsync(file.fileno())
    try:
        partial.replace(path)
    except FileNotFoundError:  # another process wrote the file meanwhile, and took this part for abandoned
        if not path.exists():
            raise
    for abandoned in path.parent.glob(f"{path.name}.*.partial"):  # by a process that was killed
        abandoned.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
