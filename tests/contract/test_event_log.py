"""The contract of every log of impressions: in memory, in Redis, in a Redis Cluster, and over HTTP in front of Redis.

Besides, what makes the streams in Redis safe to collect: they are bounded, and a batch stays the same until it is
forgotten.
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client import REGISTRY

from local.settings import LocalSettings
from recsys.adapters import redis_keys as keys
from recsys.adapters.http_clients import HttpFeatureStore
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.in_memory_event_log import InMemoryEventLog
from recsys.adapters.redis_client import Client
from recsys.adapters.redis_event_log import RedisEventLog
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.adapters.redis_log_reader import RedisLogReader
from recsys.adapters.redis_log_status import RedisLogStatus
from recsys.clock import ClockFile
from recsys.contracts.event_log import Impression, ImpressionBatch, LogTable
from recsys.contracts.events import Event
from recsys.contracts.recommendation import Tier
from recsys.errors import StorageFull
from recsys.ports import EventLog
from tests.contract.conftest import drained, emptied, redis_url

BUCKET = keys.bucket_of("u")


@dataclass(frozen=True)
class Opened:
    log: EventLog
    appended: Callable[[], Awaitable[list[Impression]]]


@asynccontextmanager
async def in_memory(_: LocalSettings) -> AsyncIterator[Opened]:
    log = InMemoryEventLog()

    async def appended() -> list[Impression]:
        return log.impressions

    yield Opened(log, appended)


@asynccontextmanager
async def in_redis(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis:
        yield Opened(RedisEventLog(redis), lambda: impressions_in(redis))


@asynccontextmanager
async def in_cluster(url: str) -> AsyncIterator[Opened]:
    async with emptied(url) as redis:
        yield Opened(RedisEventLog(redis), lambda: impressions_in(redis))


@asynccontextmanager
async def over_http(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis, HttpPool(settings.feature_service_url) as pool:
        yield Opened(HttpFeatureStore(pool), lambda: impressions_in(redis))


async def impressions_in(redis: Client) -> list[Impression]:
    return [Impression.model_validate_json(entry) for entry in await drained(redis, LogTable.IMPRESSIONS)]


ADAPTERS = {in_memory: None, in_redis: "feature_engines", in_cluster: "cluster_url", over_http: "feature_engines"}
"""By adapter: the fixture that it needs."""


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    fixture = ADAPTERS[request.param]
    async with request.param(fixture and request.getfixturevalue(fixture)) as opened:
        yield opened


@pytest.fixture
async def redis(feature_engines: LocalSettings) -> AsyncIterator[Client]:
    async with emptied(redis_url(feature_engines)) as redis:
        yield redis


def impression(number: int) -> Impression:
    return Impression(
        recommendation_id=f"r{number}.champion",
        user_id="a/b ☃\n",
        item_ids=["i1", "i 2", "i☃"],
        release_version=None if number % 2 else number + 1,
        variant="champion",
        tier=Tier.POPULAR,
        tier_reason="unknown_user",
        placement="basket",
        server_time=time.time(),
    )


def batch_of(*numbers: int) -> ImpressionBatch:
    return ImpressionBatch(batch_id=uuid.uuid4().hex, impressions=[impression(number) for number in numbers])


def view(item_id: str, user_id: str = "u") -> Event:
    return Event(user_id=user_id, item_id=item_id, event="view", timestamp=1)


async def test_impressions_are_appended_in_their_order(opened: Opened) -> None:
    batch = batch_of(1, 2, 3)
    assert (await opened.log.append(batch)).appended == 3
    assert await opened.appended() == batch.impressions


async def test_a_batch_that_is_sent_again_is_appended_once(opened: Opened) -> None:
    batch = batch_of(1, 2)
    assert (await opened.log.append(batch)).appended == 2
    assert (await opened.log.append(batch)).appended == 0
    assert await opened.appended() == batch.impressions


async def test_two_batches_are_both_appended(opened: Opened) -> None:
    for number in range(20):
        await opened.log.append(batch_of(number))
    appended = {each.recommendation_id for each in await opened.appended()}
    assert appended == {f"r{number}.champion" for number in range(20)}


# --- the streams ------------------------------------------------------------------------------------------------------


async def test_a_full_log_refuses_impressions_until_it_is_collected(redis: Client) -> None:
    log = RedisEventLog(redis, max_log_entries=keys.BUCKETS)
    first = batch_of(1)
    same_bucket = next(b for b in iter(lambda: batch_of(2), None) if bucket_of(b) == bucket_of(first))
    await log.append(first)
    with pytest.raises(StorageFull):
        await log.append(same_bucket)
    assert (await log.append(first)).appended == 0, "it was appended before"
    assert await impressions_in(redis) == first.impressions
    assert (await log.append(same_bucket)).appended == 1


def bucket_of(batch: ImpressionBatch) -> int:
    return keys.bucket_of(batch.batch_id)


async def test_a_full_log_refuses_events_without_recording_them(redis: Client) -> None:
    refused = REGISTRY.get_sample_value("tandem_events_refused_total") or 0
    store = RedisFeatureStore(redis, max_log_entries=3 * keys.BUCKETS)
    await store.record([view("a"), view("b"), view("c")], set())
    with pytest.raises(StorageFull, match="log") as error:
        await store.record([view("d"), view("e")], {"d"})
    assert error.value.retry_after_seconds == 60
    assert (await store.user_features("u")).recent_items == ["a", "b", "c"]
    assert await store.popular(10) == []
    assert REGISTRY.get_sample_value("tandem_events_refused_total") == refused + 2
    await drained(redis, LogTable.EVENTS)
    assert (await store.record([view("d"), view("e")], set())).new == [True, True]


async def test_a_batch_stays_the_same_until_it_is_forgotten(redis: Client) -> None:
    store, reader = RedisFeatureStore(redis), RedisLogReader(redis)
    await store.record([view("a"), view("b")], set())
    first = await reader.next_batch(LogTable.EVENTS, BUCKET, 10)
    await store.record([view("c")], set())
    assert len(first.ids) == 2
    for most in (1, 10):
        assert await reader.next_batch(LogTable.EVENTS, BUCKET, most) == first
    await reader.forget(first)
    second = await reader.next_batch(LogTable.EVENTS, BUCKET, 10)
    assert len(second.ids) == 1
    await reader.forget(first)
    assert await reader.next_batch(LogTable.EVENTS, BUCKET, 10) == second
    await reader.forget(second)
    assert (await reader.next_batch(LogTable.EVENTS, BUCKET, 10)).ids == []
    assert await redis.xlen(keys.log_key(LogTable.EVENTS, BUCKET)) == 0


async def test_a_batch_may_be_large(redis: Client) -> None:
    reader, stream = RedisLogReader(redis), keys.log_key(LogTable.EVENTS, BUCKET)
    pipeline = redis.pipeline()
    for number in range(9_000):
        pipeline.xadd(stream, {"entry": str(number)})
    await pipeline.execute()
    batch = await reader.next_batch(LogTable.EVENTS, BUCKET, 10_000)
    assert batch.entries == [str(number) for number in range(9_000)]
    await reader.forget(batch)
    assert await redis.xlen(stream) == 0


async def test_the_lag_of_an_entry_that_cannot_be_read_is_measured(redis: Client) -> None:
    at = int(time.time() - 100) * 1000
    await redis.xadd(keys.log_key(LogTable.EVENTS, 3), {"entry": "unreadable"}, id=f"{at}-0")
    await RedisLogStatus(redis, max_log_entries=10 * keys.BUCKETS).measure(LogTable.EVENTS)
    assert measured("tandem_log_lag_seconds") == pytest.approx(100, abs=60)


async def test_length_and_lag_are_measured(redis: Client, clock: ClockFile) -> None:
    status = RedisLogStatus(redis, max_log_entries=10 * keys.BUCKETS)
    await RedisFeatureStore(redis).record([view("a"), view("b")], set())
    clock.advance(70)
    await RedisFeatureStore(redis).record([view("c", user_id="of another stream")], set())
    clock.advance(30)
    await status.measure(LogTable.EVENTS)
    assert measured("tandem_log_entries") == 3
    assert measured("tandem_log_fill_ratio") == pytest.approx(0.2)
    assert measured("tandem_log_lag_seconds") == 100
    await drained(redis, LogTable.EVENTS)
    await status.measure(LogTable.EVENTS)
    assert [measured(f"tandem_log_{name}") for name in ("entries", "fill_ratio", "lag_seconds")] == [0, 0, 0]


def measured(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"table": "events"})
