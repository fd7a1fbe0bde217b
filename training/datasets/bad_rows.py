"""Bad rows: the first one is refused, or all are left out, counted by reason and written to a file."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from recsys.contracts.base import MAX_ID_LENGTH
from recsys.errors import DataError

REJECTS_FILE = "rejects.csv"
MAX_RECORD_LENGTH = 1_000
"""Characters of a rejected row that are written to the file."""
_TO_JSON = json.JSONEncoder(ensure_ascii=False, default=str).encode


class BadRowsPolicy(StrEnum):
    REFUSE = "refuse"
    DROP = "drop"


class Reason(StrEnum):
    """Why a row is bad. The values are stored in the manifest and in the rejects file."""

    EMPTY_USER_ID = "empty_user_id"
    LONG_USER_ID = "long_user_id"
    EMPTY_ITEM_ID = "empty_item_id"
    LONG_ITEM_ID = "long_item_id"
    UNREADABLE_TIMESTAMP = "unreadable_timestamp"
    WRONG_NUMBER_OF_FIELDS = "wrong_number_of_fields"
    BROKEN_QUOTES = "broken_quotes"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"


class Fault(NamedTuple):
    reason: Reason
    problem: str
    column: str | None = None
    may_hide_rows: bool = False
    """Whether the row may have swallowed the rows after it, as with a quote that is not closed."""


class RawRow(NamedTuple):
    """A row as it was read."""

    place: int
    """The line on which it starts, or its row number in a parquet file; from 1."""
    record: Any
    """Fields in order, values by column, or the text of a line that is neither."""
    fault: Fault | None = None
    num_lines: int = 1


class BadRows:
    """What happens to the bad rows of all files of one data set. A context: it closes the rejects file."""

    def __init__(self, policy: BadRowsPolicy, max_share: float, rejects: Path) -> None:
        """`max_share`: the largest share of a file's rows that may be dropped. `rejects`: written if a row is."""
        self._policy = policy
        self._max_share = max_share
        self._rejects = rejects
        self._writer: Any = None
        self._open_files = ExitStack()
        self._counts: dict[Path, Counter[Reason]] = {}
        self._first_places: dict[tuple[Path, Reason], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._open_files.close()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Dropped rows by file name and reason."""
        return {
            file.name: {reason.value: count for reason, count in reasons.items()}
            for file, reasons in self._counts.items()
        }

    def reject(self, file: Path, row: RawRow, fault: Fault) -> None:
        """Drop a row. Raises DataError if bad rows are refused, or if it is unclear where the row ends."""
        if fault.may_hide_rows:
            problem = f"{fault.problem}; a quote is probably not closed, so it is unclear where the next row starts"
            raise self._error(file, row, fault, problem)
        if self._policy == BadRowsPolicy.REFUSE:
            raise self._error(file, row, fault, f"{fault.problem}; BAD_ROWS=drop leaves out rows like this")
        self._counts.setdefault(file, Counter())[fault.reason] += 1
        self._first_places.setdefault((file, fault.reason), row.place)
        self._write(file, row, fault)

    def usable(self, file: Path, rows: Iterable[RawRow]) -> Iterator[RawRow]:
        """The rows without a fault; the others are rejected."""
        for row in rows:
            if row.fault is None:
                yield row
            else:
                self.reject(file, row, row.fault)

    def require_few(self, file: Path, num_usable: int) -> None:
        """Raise DataError if too large a share of the file's rows was dropped."""
        reasons = self._counts.get(file, Counter())
        num_bad = reasons.total()
        num_rows = num_bad + num_usable
        if num_bad > self._max_share * num_rows:
            found = ", ".join(
                f"{reason} ({count:,}, first in {_unit(file)} {self._first_places[file, reason]:,})"
                for reason, count in reasons.most_common()
            )
            raise DataError(
                f"{num_bad:,} of {num_rows:,} rows ({num_bad / num_rows:.1%}) are bad: {found}; "
                f"MAX_BAD_ROWS={self._max_share:g} is the largest share that may be dropped",
                file=file,
            )

    def _write(self, file: Path, row: RawRow, fault: Fault) -> None:
        if self._writer is None:
            # A record that is not UTF-8 holds surrogates, which cannot be written as they are.
            output = self._rejects.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            self._writer = csv.writer(self._open_files.enter_context(output), lineterminator="\n")
            self._writer.writerow(("file", "line", "column", "reason", "record"))
        record = _TO_JSON(row.record)
        if len(record) > MAX_RECORD_LENGTH:
            record = _TO_JSON(record[:MAX_RECORD_LENGTH])
        self._writer.writerow((file.name, row.place, fault.column, fault.reason, record))

    @staticmethod
    def _error(file: Path, row: RawRow, fault: Fault, problem: str) -> DataError:
        if _unit(file) == "row":
            return DataError(f"row {row.place}: {problem}", file=file, column=fault.column)
        return DataError(problem, file=file, line=row.place, column=fault.column)


def item_id_fault(item_id: str, column: str) -> Fault | None:
    """The id must be one that the API accepts."""
    if not item_id:
        return Fault(Reason.EMPTY_ITEM_ID, "the id is empty", column)
    if len(item_id) > MAX_ID_LENGTH:
        return Fault(Reason.LONG_ITEM_ID, too_long(item_id), column)
    if has_surrogates(item_id):
        return Fault(Reason.NOT_UTF8, "the id has half of a surrogate pair", column)
    return None


def too_long(given: str) -> str:
    return f"the id has {len(given):,} characters, but at most {MAX_ID_LENGTH} are allowed"


def has_surrogates(text: str) -> bool:
    """Whether the text cannot be encoded as UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _unit(file: Path) -> str:
    return "row" if file.suffix == ".parquet" else "line"
