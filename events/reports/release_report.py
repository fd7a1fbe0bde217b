"""The report on releases, from the files of the event log."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

from events.attribution.day_tallies import DayTallies
from events.reports.build import build_report
from events.settings import ReportSettings
from recsys.contracts.release_report import ReleasesReport
from recsys.experiment import Experiment

Progress = Callable[[Iterable[date]], Iterable[date]]


class ReleaseReport:
    def __init__(self, event_log: str, settings: ReportSettings) -> None:
        """event_log: the root of the log's files, a folder or `s3://bucket/prefix`."""
        self._settings = settings
        self._tallies = DayTallies(event_log, settings.rules)

    def make(self, now: float, progress: Progress = iter) -> ReleasesReport:
        """The report of the days until `now`. `progress` passes on the days. Raises OSError."""
        today = datetime.fromtimestamp(now, UTC).date()
        days = [today - timedelta(days=number) for number in reversed(range(self._settings.report_days))]
        return build_report(
            self._tallies.read(progress(days)),
            self._settings.rules,
            Experiment.parse(self._settings.experiment),
            first_day=days[0],
            last_day=today,
            computed_at=now,
        )
