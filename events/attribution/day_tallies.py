"""The tallies of days, each computed once and kept in a file beside the event log: `tallies/day=<UTC date>.parquet`.

A file names, by a hash, the files of the log that it was computed from. When there are others, because the day goes on
or because files came late, it is computed again. So an interrupted run continues, and the result is always that of a
run over everything.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from events.attribution.attribute import AttributionRules
from events.attribution.tally import TALLY_SCHEMA, tally
from events.log_files import LogFiles
from events.parquet_files import read_metadata, write_parquet
from recsys.contracts.event_log import LogTable

TALLY_VERSION = 3
"""Raise it when a tally counts something else: all are computed again."""
SOURCES = "sources"
"""The name of the hash in a file's metadata."""


class DayTallies:
    def __init__(self, root: str, rules: AttributionRules) -> None:
        """root: of the event log."""
        self._root = root.rstrip("/")
        self._files = LogFiles(root)
        self._rules = rules

    def read(self, days: Iterable[date]) -> pl.DataFrame:
        """[rows] of TALLY_SCHEMA of these days. Raises OSError if a file cannot be written."""
        paths = [path for day in days if (path := self._up_to_date(day))]
        return pl.concat([pl.read_parquet(path) for path in paths]) if paths else pl.DataFrame(schema=TALLY_SCHEMA)

    def _up_to_date(self, day: date) -> str | None:
        """The path of the day's tally, which is computed again if the log has other files; None without any."""
        next_day = day + timedelta(days=1)
        impressions = self._files.names(LogTable.IMPRESSIONS, day)
        events = self._files.names(LogTable.EVENTS, day)
        later = [name for name in self._files.names(LogTable.EVENTS, next_day) if self._may_follow(name, next_day)]
        if not impressions and not events:
            return None
        path = f"{self._root}/tallies/day={day:%Y-%m-%d}.parquet"
        sources = _hash([TALLY_VERSION, *astuple(self._rules)], impressions, events, later)
        if read_metadata(path).get(SOURCES) != sources:
            rows = tally(
                self._files.read_named(LogTable.IMPRESSIONS, day, impressions),
                self._files.read_named(LogTable.EVENTS, day, events),
                self._files.read_named(LogTable.EVENTS, next_day, later),
                self._rules,
            )
            write_parquet(path, rows, {SOURCES: sources})
        return path

    def _may_follow(self, name: str, day: date) -> bool:
        """Whether a file of this day may have events within the window of an impression of the day before: by the
        `server_time` of its earliest event, which is in its name."""
        earliest = int(name.split("-")[1]) / 1000
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        return earliest <= midnight + self._rules.window_seconds


def _hash(*parts: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
