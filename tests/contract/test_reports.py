"""The contract of the last report on releases: in memory, in Redis, in a Redis Cluster, and over HTTP. And its job."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from events.reporter import Reporter
from events.reports.release_report import ReleaseReport
from events.settings import ReportSettings
from local.settings import LocalSettings
from recsys.adapters.http_clients import HttpFeatureStore
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.in_memory_reports import InMemoryReports
from recsys.adapters.redis_reports import RedisReports
from recsys.contracts.release_report import ReleasesReport
from recsys.errors import UpstreamUnavailable
from recsys.ports import ReleaseReports
from recsys.web.readiness import OK
from tests.contract.conftest import emptied, redis_url
from tests.event_logs import LogByHand, event, impression
from training.jobs.report import report
from training.settings import JobSettings

AN_HOUR_AGO = time.time() - 3600
Opened = tuple[ReleaseReports, InMemoryReports | RedisReports]
"""What reads the report, and what publishes it."""


@asynccontextmanager
async def in_memory(_: LocalSettings) -> AsyncIterator[Opened]:
    reports = InMemoryReports()
    yield reports, reports


@asynccontextmanager
async def in_redis(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis:
        yield RedisReports(redis), RedisReports(redis)


@asynccontextmanager
async def in_cluster(url: str) -> AsyncIterator[Opened]:
    async with emptied(url) as redis:
        yield RedisReports(redis), RedisReports(redis)


@asynccontextmanager
async def over_http(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis, HttpPool(settings.feature_service_url) as pool:
        yield HttpFeatureStore(pool), RedisReports(redis)


ADAPTERS = {in_memory: None, in_redis: "feature_engines", in_cluster: "cluster_url", over_http: "feature_engines"}
"""By adapter: the fixture that it needs."""


@pytest.fixture
def log(tmp_path: Path) -> LogByHand:
    log = LogByHand(tmp_path / "log")
    log.show(impression("r1", AN_HOUR_AGO), impression("r2", AN_HOUR_AGO, user="v", items="ab", release=2))
    log.record(event("r1", "b", AN_HOUR_AGO + 1))
    return log


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.__name__)
async def test_the_last_report_is_read_and_before_the_first_an_empty_one(
    adapter: object, request: pytest.FixtureRequest, log: LogByHand
) -> None:
    fixture = ADAPTERS[adapter]
    made = ReleaseReport(str(log.root), ReportSettings(report_days=2)).make(time.time())
    async with adapter(fixture and request.getfixturevalue(fixture)) as (reading, publishing):
        assert await reading.releases() == ReleasesReport()
        for published in (ReleasesReport(computed_at=1), made):
            await publishing.publish(published)
            assert await reading.releases() == published
    assert [each.clicked for each in made.releases] == [0, 1]


async def test_a_report_that_fails_says_why_and_is_made_again(feature_engines: LocalSettings, log: LogByHand) -> None:
    (log.root / "tallies").write_text("a file where a folder should be")
    async with emptied(redis_url(feature_engines)) as redis:
        reporter = Reporter(str(log.root), RedisReports(redis), seconds=60)
        await reporter.report()
        assert "tallies" in reporter.state
        assert await RedisReports(redis).releases() == ReleasesReport()
        (log.root / "tallies").unlink()
        await reporter.report()
        assert reporter.state == OK
        assert len((await RedisReports(redis).releases()).releases) == 2
    assert REGISTRY.get_sample_value("tandem_release_impressions", {"release": "2"}) == 1
    assert REGISTRY.get_sample_value("tandem_report_failures_total")


async def test_the_job_writes_a_page_and_publishes_the_report(
    feature_engines: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = JobSettings.model_validate({"dataset": "toy", "data_dir": tmp_path})
    log, now = LogByHand(Path(settings.event_log)), AN_HOUR_AGO
    log.show(impression("r1", now), impression("r2", now, user="v", release=2))
    log.record(event("r1", "b", now))
    monkeypatch.setenv("REDIS_URL", redis_url(feature_engines))
    async with emptied(redis_url(feature_engines)) as redis:
        done = await asyncio.to_thread(report, settings)
        published = await RedisReports(redis).releases()
    assert done == f"2 impressions of 2 releases are in {settings.reports_dir}/releases.md"
    assert ReleasesReport.model_validate_json((settings.reports_dir / "releases.json").read_text()) == published
    assert [each.clicked for each in published.releases] == [0, 1]
    table = "| 1 | all | all | all | 1 | 1 | 100.00% (0.00% to 100.00%) | click 100.00% | 3 | 1.000 |"
    assert table in capsys.readouterr().out
    assert table in (settings.reports_dir / "releases.md").read_text()


async def test_without_redis_the_job_fails_and_keeps_the_page(
    stopped: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JobSettings.model_validate({"dataset": "toy", "data_dir": tmp_path})
    monkeypatch.setenv("REDIS_URL", redis_url(stopped))
    with pytest.raises(UpstreamUnavailable):
        await asyncio.to_thread(report, settings)
    assert "0 of 0 events" in (settings.reports_dir / "releases.md").read_text()
