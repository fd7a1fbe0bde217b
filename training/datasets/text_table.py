"""Delimited text, read fast by polars or slowly with line numbers. Every value is text, so the id 007 stays 007."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

import polars as pl

from recsys.errors import DataError

_SPACER = "_between_"
# Some fields hold long descriptions; the default limit of the csv module is 128 kB.
csv.field_size_limit(1 << 24)


@dataclass(frozen=True)
class TextTable:
    path: Path
    separator: str = ","
    header: tuple[str, ...] | None = None
    """The column names of a file that has no header line."""
    encoding: str = "utf-8-sig"
    quoted: bool = True

    @cached_property
    def columns(self) -> tuple[str, ...]:
        if self.header is not None:
            return self.header
        _, names = next(self._numbered(), (1, []))
        if not names:
            raise DataError("the file is empty", file=self.path)
        return tuple(names)

    def require(self, *names: str) -> None:
        """Raise DataError unless each of these columns exists exactly once."""
        for name in names:
            found = self.columns.count(name)
            if found != 1:
                problem = "the column is missing" if not found else f"there are {found} columns of this name"
                arrived, expected = ", ".join(self.columns), ", ".join(names)
                raise DataError(
                    f"{problem}; expected {expected}; the file has {arrived}", file=self.path, line=1, column=name
                )

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) of every record that is not blank, without the header. Checks the number of fields."""
        numbered = self._numbered()
        if self.header is None:
            next(numbered, None)
        for line, fields in numbered:
            if len(fields) != len(self.columns):
                problem = f"{len(fields)} fields, but {len(self.columns)} are expected: {', '.join(self.columns)}"
                raise DataError(problem, file=self.path, line=line)
            yield line, fields

    def scan(self) -> pl.LazyFrame:
        """All columns as text, lazily; a missing field and a blank line are empty text."""
        # polars supports only one-character separators: in "a::b" it sees an empty column between two colons.
        spacers = len(self.separator) - 1
        names = [
            name
            for position, column in enumerate(self.columns)
            for name in (*(f"{_SPACER}{position}_{spacer}" for spacer in range(spacers if position else 0)), column)
        ]
        return pl.scan_csv(
            self.path,
            separator=self.separator[0],
            has_header=self.header is None,
            quote_char='"' if self.quoted else None,
            schema=None if self.header is None else dict.fromkeys(names, pl.String),
            infer_schema=False,
            empty_string_is_null=False,
            low_memory=True,
            glob=False,
        )

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        line = 0
        try:
            with self._text() as text:
                if len(self.separator) > 1:
                    for line, raw in enumerate(text, start=1):
                        if bare := raw.rstrip("\r\n"):
                            yield line, self._decoded(line, bare.split(self.separator))
                    return
                reader = csv.reader(
                    text, delimiter=self.separator, quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
                )
                for fields in reader:
                    # A quoted field may span lines: a record starts on the line after the end of the previous one.
                    if fields:
                        yield line + 1, self._decoded(line + 1, fields)
                    line = reader.line_num
        except csv.Error as exc:
            raise DataError(f"this is not delimited text: {exc}", file=self.path, line=line + 1) from exc
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            raise DataError(f"the compressed file is broken: {exc}", file=self.path) from exc

    def _text(self) -> TextIO:
        newline = "" if len(self.separator) == 1 else None
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rt", encoding=self.encoding, errors="surrogateescape", newline=newline)
        return self.path.open(encoding=self.encoding, errors="surrogateescape", newline=newline)

    def _decoded(self, line: int, fields: list[str]) -> list[str]:
        for position, field in enumerate(fields):
            if not field.isascii() and any("\ud800" <= character <= "\udfff" for character in field):
                column = self.columns[position] if line > 1 and position < len(self.columns) else None
                raise DataError("the text is not UTF-8", file=self.path, line=line, column=column)
        return fields
