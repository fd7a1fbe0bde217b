"""Delimited text, read fast by polars or slowly with line numbers. Every value is text, so the id 007 stays 007.

Quotes follow RFC 4180: a field that starts with one ends with one.
"""

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
from training.datasets.bad_rows import BadRows, Fault, RawRow, Reason, has_surrogates

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
        first = next(self._numbered(), None)
        if first is None:
            raise DataError("the file is empty", file=self.path)
        if first.fault is not None:
            raise DataError(first.fault.problem, file=self.path, line=first.place)
        return tuple(first.record)

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

    def rows(self) -> Iterator[RawRow]:
        """Every record that is not blank, without the header, as its list of fields. Checks their number."""
        numbered = self._numbered()
        if self.header is None:
            next(numbered, None)
        for row in numbered:
            if row.fault is not None:
                yield row
            elif len(row.record) != len(self.columns):
                problem = f"{len(row.record)} fields, but {len(self.columns)} are expected: {', '.join(self.columns)}"
                fault = Fault(Reason.WRONG_NUMBER_OF_FIELDS, problem, may_hide_rows=row.num_lines > 1)
                yield row._replace(fault=fault)
            else:
                yield self._checked(row)

    def records(self, bad_rows: BadRows) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) of the rows without a fault; the others are rejected."""
        for row in bad_rows.usable(self.path, self.rows()):
            yield row.place, row.record

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

    def _numbered(self) -> Iterator[RawRow]:
        """Every record that is not blank, with the header."""
        try:
            with self._text() as text:
                yield from self._quoted_rows(text) if len(self.separator) == 1 else self._split_rows(text)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            raise DataError(f"the compressed file is broken: {exc}", file=self.path) from exc

    def _split_rows(self, text: TextIO) -> Iterator[RawRow]:
        for line, raw in enumerate(text, start=1):
            if bare := raw.rstrip("\r\n"):
                yield RawRow(line, bare.split(self.separator))

    def _quoted_rows(self, text: TextIO) -> Iterator[RawRow]:
        latest = ""

        def lines() -> Iterator[str]:
            nonlocal latest
            for line in text:
                latest = line
                yield line

        reader = csv.reader(
            lines(),
            delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            strict=self.quoted,
        )
        while True:
            # A quoted field may span lines: a record starts on the line after the end of the previous one.
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                num_lines = reader.line_num - line + 1
                fault = Fault(Reason.BROKEN_QUOTES, f"this is not delimited text: {exc}", may_hide_rows=num_lines > 1)
                yield RawRow(line, latest.rstrip("\r\n"), fault, num_lines)
                continue
            if fields:
                yield RawRow(line, fields, None, reader.line_num - line + 1)

    def _text(self) -> TextIO:
        newline = "" if len(self.separator) == 1 else None
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rt", encoding=self.encoding, errors="surrogateescape", newline=newline)
        return self.path.open(encoding=self.encoding, errors="surrogateescape", newline=newline)

    def _checked(self, row: RawRow) -> RawRow:
        if "".join(row.record).isascii():  # most rows are, and joining is cheaper than looking at each field
            return row
        for column, field in zip(self.columns, row.record, strict=True):
            if has_surrogates(field):
                return row._replace(fault=Fault(Reason.NOT_UTF8, "the text is not UTF-8", column))
        return row
