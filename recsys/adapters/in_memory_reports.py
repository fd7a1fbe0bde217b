"""The port ReleaseReports in this process's memory, for tests, notebooks and demos."""

from recsys.contracts.release_report import ReleasesReport


class InMemoryReports:
    def __init__(self) -> None:
        self._report = ReleasesReport()

    async def publish(self, report: ReleasesReport) -> None:
        self._report = report

    async def releases(self) -> ReleasesReport:
        return self._report
