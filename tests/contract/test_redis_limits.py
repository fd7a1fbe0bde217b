"""What bounds the memory of Redis: users expire, sets are trimmed, and a full server takes no new events."""

import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from local.settings import LocalSettings
from recsys.adapters import redis_feature_store
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_activity import RedisActivity
from recsys.adapters.redis_client import Client, open_blocking_redis, open_redis
from recsys.adapters.redis_feature_store import MAX_RECENT, RedisFeatureStore
from recsys.adapters.redis_memory import RedisMemory
from recsys.adapters.redis_users import active_users
from recsys.contracts.activity import ACTIVITY_DAYS, DAY, day_of
from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.event_kinds import EventKinds, KindMeaning
from recsys.contracts.events import MAX_EVENTS, Event
from recsys.errors import StorageFull
from tests.contract.conftest import redis_url
from tests.engines import local_settings, running

BUCKET = keys.bucket_of("u")


def view(item_id: str, at: float, user_id: str = "u", kind: str = "view") -> Event:
    return Event(user_id=user_id, item_id=item_id, event=kind, timestamp=at)


@pytest.fixture
async def redis(feature_engines: LocalSettings) -> AsyncIterator[Client]:
    client = open_redis(redis_url(feature_engines))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def users_of_one_bucket() -> list[str]:
    numbered = (f"u{number}" for number in range(10_000))
    return [user_id for user_id in numbered if keys.bucket_of(user_id) == BUCKET][:20]


async def test_a_user_without_events_expires(redis: Client) -> None:
    store = RedisFeatureStore(redis, user_ttl_seconds=30 * DAY)
    await store.record([view("a", 1)], {"a"})
    stored = [key for key in keys.user_keys("u") if await redis.exists(key)]
    assert len(stored) == 3
    for key in stored:
        assert 29 * DAY < await redis.ttl(key) <= 30 * DAY
        await redis.expire(key, 100)
    await store.record([view("a", 1)], {"a"})
    assert all([await redis.ttl(key) > 100 for key in stored])


async def test_what_a_user_does_not_want_expires_with_the_user(redis: Client) -> None:
    store, kinds = RedisFeatureStore(redis, user_ttl_seconds=30 * DAY), EventKinds({"no": KindMeaning(negative=True)})
    await store.record([view("a", 1)], {"a"})
    await store.record([view("b", 2, kind="no")], {"b"}, kinds)
    assert 29 * DAY < await redis.ttl(keys.disliked_key("u")) <= 30 * DAY
    await redis.expire(keys.disliked_key("u"), 100)
    await redis.expire(keys.event_ids_key("u"), 100)
    await store.record([view("c", 3)], {"c"})
    assert await redis.ttl(keys.disliked_key("u")) > 100


async def test_every_set_of_a_user_is_bounded(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_feature_store, "MAX_SEEN", 30)
    monkeypatch.setattr(redis_feature_store, "MAX_EVENT_IDS", 20)
    store = RedisFeatureStore(redis)
    kinds = ["view", "click", "purchase", "rating"]
    events = [view(f"i{step}", 100 * step + n, kind=kind) for step in range(400) for n, kind in enumerate(kinds)]
    for start in range(0, len(events), MAX_EVENTS):
        await store.record(events[start : start + MAX_EVENTS], set())
        assert await redis.zcard(keys.recent_key("u")) <= MAX_RECENT
    assert (await store.user_features("u")).recent_items == [f"i{step}" for step in range(400 - MAX_HISTORY, 400)]
    assert (await redis.zcard(keys.seen_key("u")), await redis.zcard(keys.event_ids_key("u"))) == (30, 20)


async def test_every_set_of_a_bucket_is_bounded(
    redis: Client, monkeypatch: pytest.MonkeyPatch, users_of_one_bucket: list[str]
) -> None:
    monkeypatch.setattr(redis_feature_store, "MAX_ACTIVE", 3)
    monkeypatch.setattr(redis_feature_store, "MAX_POPULAR", 4)
    events = [view(f"i{at}", at, user_id) for at, user_id in enumerate(users_of_one_bucket)]
    await RedisFeatureStore(redis).record(events, {event.item_id for event in events})
    assert await redis.zrange(keys.active_key(BUCKET), 0, -1) == users_of_one_bucket[-3:]
    assert await redis.zrange(keys.popular_key(BUCKET), 0, -1) == ["i16", "i17", "i18", "i19"]


async def test_the_activity_of_a_day_is_bounded_and_expires(
    redis: Client, monkeypatch: pytest.MonkeyPatch, users_of_one_bucket: list[str]
) -> None:
    """Items beyond the bound count in the sums of all items."""
    monkeypatch.setattr(redis_feature_store, "MAX_DAY_ITEMS", 3)
    day = day_of(time.time()) - 1
    events = [view(f"i{at // 2}", day * DAY + at, user_id) for at, user_id in enumerate(users_of_one_bucket)]
    await RedisFeatureStore(redis).record(events, {event.item_id for event in events})
    found = await RedisActivity(redis).day_activity(day)
    assert found is not None
    assert (len(found.item_ids), found.events) == (3, 20)
    assert found.totals[0] > 3 * sum(found.weights[0])
    left = await redis.ttl(keys.activity_key(BUCKET, day))
    assert (ACTIVITY_DAYS - 1) * DAY < left <= ACTIVITY_DAYS * DAY


async def test_the_users_with_the_latest_events_are_active(redis: Client, feature_engines: LocalSettings) -> None:
    events = [view("a", at, f"u{number}") for number, at in enumerate([50, 10, 40, 20, 30])]
    await RedisFeatureStore(redis).record([*events, view("b", 60, "u1")], set())
    with open_blocking_redis(redis_url(feature_engines)) as blocking:
        assert active_users(blocking, 3) == ["u1", "u0", "u2"]
        assert active_users(blocking, 100) == ["u1", "u0", "u2", "u4", "u3"]
        assert active_users(blocking, 0) == []


async def test_old_events_do_not_count_again_when_a_full_seen_has_lost_them(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_feature_store, "MAX_SEEN", 5)
    store = RedisFeatureStore(redis)
    await store.record([view("old", 10)], {"old"})
    before = await store.popular(10)
    await store.record([view(f"i{at}", at) for at in range(100, 110)], set())
    await store.record([view("old", at) for at in range(20)], {"old"})
    assert [item.popularity for item in await store.popular(10)] == pytest.approx([before[0].popularity], rel=1e-3)


# --- a full server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """A Redis, whose memory the tests limit, and the feature service in front of it."""
    settings = local_settings(tmp_path_factory.mktemp("small"), redis_maxmemory="100mb")
    with running(settings, "redis", "feature_service"):
        yield settings


@pytest.fixture
async def small(small_redis: LocalSettings) -> AsyncIterator[Redis]:
    """With the events of one user."""
    client = open_redis(redis_url(small_redis))
    assert isinstance(client, Redis)
    await client.config_set("maxmemory", "100mb")
    await client.flushall()
    await RedisFeatureStore(client).record([view(f"i{at}", at) for at in range(100)], set())
    yield client
    await client.aclose()


async def fill(store: RedisFeatureStore) -> int:
    """Record the events of one user after the other until the store refuses them; returns how many users it took."""
    for number in range(10_000):
        try:
            await store.record([view(f"i{at}", at, f"u{number}") for at in range(100)], set())
        except StorageFull:
            return number
    raise AssertionError("the server was never full")


async def use(redis: Redis, share: float) -> None:
    """Set the memory limit so that this share of it is in use."""
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", int(used / share))


@pytest.mark.parametrize(("share", "is_full"), [(0.9, False), (0.96, True), (1.1, True)])
async def test_new_events_are_refused_before_redis_is_full_and_reads_go_on(
    small: Redis, share: float, is_full: bool
) -> None:
    memory = RedisMemory(small)
    store = RedisFeatureStore(small, is_full=lambda: memory.is_full)
    await use(small, share)
    await memory.measure()
    assert memory.is_full == is_full
    if is_full:
        with pytest.raises(StorageFull) as refused:
            await store.record([view("new", 1000)], {"new"})
        assert refused.value.retry_after_seconds == 60
    else:
        assert (await store.record([view("new", 1000)], {"new"})).new == [True]
    assert ("new" in (await store.user_features("u")).recent_items) != is_full


async def test_without_a_limit_redis_is_never_full(small: Redis) -> None:
    await small.config_set("maxmemory", 0)
    memory = RedisMemory(small)
    await memory.measure()
    assert not memory.is_full


async def test_what_redis_refuses_is_refused_alike_and_what_it_took_is_there(small: Redis) -> None:
    store = RedisFeatureStore(small)
    used = (await small.info("memory"))["used_memory"]
    await small.config_set("maxmemory", used + 500_000)
    taken = await fill(store)
    assert taken > 3
    assert [len((await store.user_features(f"u{user}")).recent_items) for user in range(taken)] == [100] * taken


async def test_over_http_a_full_store_is_a_503_that_says_when_to_retry(
    small: Redis, small_redis: LocalSettings
) -> None:
    await use(small, 1.5)
    event = view("a", 1).model_dump(mode="json", exclude_none=True)
    async with httpx.AsyncClient(base_url=small_redis.feature_service_url) as client:
        for _ in range(30):  # failures that would open a breaker
            refused = await client.post("/v1/events", json={"events": [event], "known": [False]})
            assert (refused.status_code, refused.json()["error"]) == (503, "storage_full")
        assert refused.headers["retry-after"] == "60"
        assert (await client.get("/v1/users/u/features")).json()["known"]


async def test_memory_is_published(small: Redis) -> None:
    await RedisMemory(small).measure()
    assert REGISTRY.get_sample_value("tandem_redis_maxmemory_bytes") == 100 * 2**20
    assert REGISTRY.get_sample_value("tandem_redis_used_bytes") > 500_000
    assert 1_000 < REGISTRY.get_sample_value("tandem_redis_user_bytes") < 100_000
