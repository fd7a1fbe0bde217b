"""JSON lines, plain or gzipped: read fast by polars, and object by object, with line numbers."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets.bad_rows import Fault, RawRow, Reason


def scan(path: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    """These fields of every object as text, lazily; null if an object lacks one."""
    return pl.scan_ndjson(path, schema=dict.fromkeys(columns, pl.String), low_memory=True)


def rows(path: Path) -> Iterator[RawRow]:
    """Every line that is not blank, as its JSON object. Raises DataError if the file is broken."""
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line, raw in enumerate(lines, start=1):
                if raw.strip():
                    yield _row(line, raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DataError(f"the compressed file is broken after line {line}: {exc}", file=path) from exc


def _row(line: int, raw: bytes) -> RawRow:
    try:
        value = json.loads(raw)
        problem = None if isinstance(value, dict) else "an object is expected on every line"
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        problem = f"this is not JSON: {exc}"
    if problem is None:
        return RawRow(line, value)
    text = raw.rstrip(b"\r\n").decode(errors="surrogateescape")
    return RawRow(line, text, Fault(Reason.NOT_JSON, problem))
