"""From the streams in Redis into Parquet: each entry once, wherever the collector is stopped."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from events.collector import Collector
from events.log_files import LogFiles
from events.tables import SCHEMAS
from local.settings import LocalSettings
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, open_redis
from recsys.adapters.redis_event_log import RedisEventLog
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.adapters.redis_log_reader import LogBatch, RedisLogReader
from recsys.contracts.event_log import Impression, ImpressionBatch, LoggedEvent, LogTable
from recsys.contracts.events import Event
from recsys.contracts.recommendation import Exploration, Tier
from recsys.errors import UpstreamUnavailable
from recsys.web.readiness import OK
from tests.contract.conftest import redis_url

LONG_AGO, FAR = datetime(1970, 1, 2, tzinfo=UTC), datetime.now(UTC) + timedelta(days=2)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC).timestamp()


@pytest.fixture
async def redis(feature_engines: LocalSettings) -> AsyncIterator[Client]:
    redis = open_redis(redis_url(feature_engines))
    await redis.flushall()
    yield redis
    await redis.aclose()


@pytest.fixture
def files(tmp_path: Path) -> LogFiles:
    return LogFiles(str(tmp_path))


def rows(files: LogFiles, table: LogTable = LogTable.EVENTS) -> pl.DataFrame:
    return files.read(table, datetime.now(UTC) - timedelta(days=2), FAR).collect()


async def record(redis: Client, *numbers: int) -> None:
    events = [Event(event_id=f"e{n}", user_id=f"u{n % 5}", item_id="a", event="view", timestamp=n) for n in numbers]
    await RedisFeatureStore(redis).record(events, set())


def event_ids(frame: pl.DataFrame) -> list[str]:
    return sorted(frame["event_id"])


@pytest.mark.parametrize(("table", "contract"), [(LogTable.EVENTS, LoggedEvent), (LogTable.IMPRESSIONS, Impression)])
def test_the_files_have_every_field_of_the_entries(table: LogTable, contract: type[LoggedEvent | Impression]) -> None:
    fields = [field.serialization_alias or name for name, field in contract.model_fields.items()]
    assert SCHEMAS[table].names() == fields


async def test_events_and_impressions_are_moved_into_files(redis: Client, files: LogFiles, tmp_path: Path) -> None:
    shown = Impression(
        recommendation_id="r.champion",
        user_id="u☃",
        item_ids=["b", "a"],
        release_version=3,
        variant="champion",
        tier=Tier.STATIC,
        tier_reason="features:upstream_timeout",
        placement="basket",
        exploration=Exploration(explored=[True, False], propensities=[0.02, 0.9], drawn_from=5),
        server_time=datetime.now(UTC).timestamp(),
    )
    await RedisEventLog(redis).append(ImpressionBatch(batch_id=uuid.uuid4().hex, impressions=[shown]))
    await record(redis, *range(20))
    collector = Collector(RedisLogReader(redis), files, seconds=1)
    await collector.collect()
    assert collector.state == OK
    assert event_ids(rows(files)) == sorted(f"e{number}" for number in range(20))
    assert rows(files, LogTable.IMPRESSIONS).to_dicts() == [shown.model_dump(mode="json")]
    lengths = [await redis.xlen(keys.log_key(table, bucket)) for table in LogTable for bucket in range(keys.BUCKETS)]
    assert sum(lengths) == 0
    written = list(tmp_path.rglob("*.parquet"))
    await collector.collect()
    assert list(tmp_path.rglob("*.parquet")) == written, "a pass without entries writes nothing"


class ForgettingFails(RedisLogReader):
    async def forget(self, batch: LogBatch) -> None:
        raise UpstreamUnavailable("as if it was killed here")


async def test_a_collector_that_stops_before_it_forgets_doubles_nothing(
    redis: Client, files: LogFiles, tmp_path: Path
) -> None:
    await record(redis, 1, 2, 3)
    collector = Collector(ForgettingFails(redis), files, seconds=1)
    await collector.collect()
    assert collector.state == "as if it was killed here"
    written = sorted(tmp_path.rglob("*.parquet"))
    assert written
    await record(redis, 4, 5, 6)
    await Collector(RedisLogReader(redis), files, seconds=1).collect()
    assert set(written) < set(tmp_path.rglob("*.parquet"))
    assert event_ids(pl.concat(map(pl.read_parquet, tmp_path.rglob("*.parquet")))) == [f"e{n}" for n in range(1, 7)]


async def test_a_folder_that_cannot_be_written_loses_nothing(redis: Client, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    await record(redis, 1, 2)
    collector = Collector(RedisLogReader(redis), LogFiles(str(tmp_path / "blocked")), seconds=1)
    await collector.collect()
    assert "blocked" in collector.state
    (tmp_path / "blocked").unlink()
    await collector.collect()
    assert collector.state == OK
    assert event_ids(rows(LogFiles(str(tmp_path / "blocked")))) == ["e1", "e2"]


@pytest.mark.parametrize("unreadable", ["", "5", "null", "{}", '{"server_time": "soon"}', '{"server_time": null}'])
async def test_an_unreadable_entry_keeps_only_its_stream_back(redis: Client, files: LogFiles, unreadable: str) -> None:
    await record(redis, *range(5))
    await redis.xadd(keys.log_key(LogTable.EVENTS, keys.bucket_of("u0")), {"entry": unreadable})
    collector = Collector(RedisLogReader(redis), files, seconds=1)
    await collector.collect()
    assert "not one of events" in collector.state
    others = [number for number in range(5) if keys.bucket_of(f"u{number}") != keys.bucket_of("u0")]
    assert event_ids(rows(files)) == [f"e{number}" for number in others]


def entry(event_id: str, server_time: float) -> str:
    event = Event(event_id=event_id, user_id="u", item_id="a", event="view", timestamp=1)
    return LoggedEvent.of(event, server_time).model_dump_json()


def test_files_are_by_day_and_read_by_time(files: LogFiles, tmp_path: Path) -> None:
    times = {"evening": MIDNIGHT - 1, "midnight": MIDNIGHT, "noon": MIDNIGHT + 43_200, "next": MIDNIGHT + 86_400}
    files.write(LogTable.EVENTS, 7, "1-0", "4-0", [entry(name, at) for name, at in times.items()])
    days = ["day=2026-11-21", "day=2026-11-22", "day=2026-11-23"]
    assert sorted(path.parent.name for path in tmp_path.rglob("07-*-1-0-4-0.parquet")) == days
    start = datetime.fromtimestamp(MIDNIGHT, UTC)
    found = files.read(LogTable.EVENTS, start, start + timedelta(days=1)).collect()
    assert event_ids(found) == ["midnight", "noon"]
    assert found.schema == SCHEMAS[LogTable.EVENTS]
    assert files.read(LogTable.EVENTS, LONG_AGO, LONG_AGO + timedelta(days=1)).collect().is_empty()


def test_an_event_that_was_logged_twice_is_read_once(files: LogFiles) -> None:
    files.write(LogTable.EVENTS, 7, "1-0", "1-0", [entry("same", MIDNIGHT)])
    files.write(LogTable.EVENTS, 7, "2-0", "2-0", [entry("same", MIDNIGHT + 100_000)])
    start = datetime.fromtimestamp(MIDNIGHT, UTC)
    found = files.read(LogTable.EVENTS, start, start + timedelta(days=3)).collect()
    assert found["server_time"].to_list() == [MIDNIGHT]


def test_fields_of_later_versions_are_left_out_and_missing_ones_are_null(files: LogFiles) -> None:
    files.write(LogTable.EVENTS, 7, "1-0", "1-0", [f'{{"event_id": "e", "new": [1], "server_time": {MIDNIGHT}}}'])
    start = datetime.fromtimestamp(MIDNIGHT, UTC)
    found = files.read(LogTable.EVENTS, start, start + timedelta(days=1)).collect().to_dicts()
    assert [(row["event_id"], row["value"], row["item_id"]) for row in found] == [("e", None, None)]
