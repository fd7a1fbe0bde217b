"""JSON lines, plain or gzipped: read fast by polars, and object by object, with line numbers."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import DataError


def scan(path: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    """These fields of every object as text, lazily; null if an object lacks one."""
    return pl.scan_ndjson(path, schema=dict.fromkeys(columns, pl.String), low_memory=True)


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every line that is not blank. Raises DataError if a line is not a JSON object."""
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                value = json.loads(raw)
                if not isinstance(value, dict):
                    raise DataError("an object is expected on every line", file=path, line=line)
                yield line, value
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise DataError(f"this is not JSON: {exc}", file=path, line=line) from exc
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DataError(f"the compressed file is broken after line {line}: {exc}", file=path) from exc
