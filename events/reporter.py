"""Makes the report on releases again and again, beside the collector, and publishes it."""

import asyncio
import time

import structlog
from prometheus_client import Counter, Gauge

from events.report_process import make_report
from recsys.adapters.redis_reports import RedisReports
from recsys.contracts.release_report import ReleasesReport
from recsys.errors import JobError, UpstreamError
from recsys.web.readiness import OK

LARGEST_SHARE = 0.1
"""Of the time may be spent on reports: the next one waits longer if the last one took long."""

IMPRESSIONS = Gauge("tandem_release_impressions", "Impressions in the last report, by release.", ["release"])
CLICK_THROUGH = Gauge(
    "tandem_release_click_through", "Click-through in the last report, and its interval.", ["release", "bound"]
)
DIFFERENCE = Gauge(
    "tandem_release_difference",
    "Click-through of the newest release minus that of another one while both served, and its interval.",
    ["release", "reference", "bound"],
)
COMPUTED = Gauge("tandem_report_timestamp_seconds", "When the last report was made, in Unix time.")
SPENT = Gauge("tandem_report_seconds", "How long the last report took.")
FAILURES = Counter("tandem_report_failures_total", "Reports that could not be made or published.")

log = structlog.get_logger()


class Reporter:
    def __init__(self, event_log: str, reports: RedisReports, *, seconds: float) -> None:
        """event_log: the root of the log's files. `seconds` is the time between two reports."""
        self._event_log = event_log
        self._reports = reports
        self._seconds = seconds
        self.state = "no report was made yet"
        """`ok`, or what was wrong with the last report."""

    async def run(self) -> None:
        """Report for ever."""
        while True:
            started = time.monotonic()
            await self.report()
            spent = time.monotonic() - started
            SPENT.set(spent)
            await asyncio.sleep(max(self._seconds, spent * (1 / LARGEST_SHARE - 1)))

    async def report(self) -> None:
        """Make a report and publish it. What fails is tried again with the next one, even if it failed because of a
        bug."""
        try:
            report = await make_report(self._event_log)
            await self._reports.publish(report)
            _export(report)
            self.state = OK
        except (UpstreamError, JobError) as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"the report failed: {type(error).__name__}")
            log.exception("report_failed")

    def _failed(self, problem: str) -> None:
        self.state = problem
        FAILURES.inc()
        log.warning("report_failed", problem=problem)


def _export(report: ReleasesReport) -> None:
    """Set the metrics. Their labels are bounded, as the releases of a report are."""
    for metric in (IMPRESSIONS, CLICK_THROUGH, DIFFERENCE):
        metric.clear()
    for each in report.releases:
        IMPRESSIONS.labels(each.release_version).set(each.impressions)
        for bound in ("mean", "low", "high"):
            CLICK_THROUGH.labels(each.release_version, bound).set(getattr(each.click_through, bound))
    newest = max((each.release_version or 0 for each in report.releases), default=0)
    for comparison in report.comparisons:
        if comparison.release_version == newest:
            for bound in ("mean", "low", "high"):
                labels = (newest, comparison.reference_version, bound)
                DIFFERENCE.labels(*labels).set(getattr(comparison.difference, bound))
    COMPUTED.set(report.computed_at or 0)
