"""User histories, user attributes and trending items in Redis, with one round trip per call.

Keys per user: `recent` (the newest 200 items, a sorted set of `<position><item_id>` by time), `seen` (every item by the
time of its last event), `event_ids` (the recorded events), `attributes` (a hash) and `precomputed` (a list that a batch
job writes, with an expiry time).

Trending counts use forward decay (Cormode et al., "Forward Decay", ICDE 2009): an event weighs 2^((t - landmark) /
half-life), so counts need no updates as they age. Only the order of the sums is meaningful.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from recsys.adapters.upstream import REDIS, Upstream
from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.events import Event, RecordedEvents
from recsys.contracts.features import SHIPPED_SEEN, PopularItem, PrecomputedList, UserFeatures
from recsys.errors import UpstreamTimeout, UpstreamUnavailable

MAX_CONNECTIONS = 64
MAX_SEEN = 10_000
MAX_EVENT_IDS = 1_000
"""Per user: a duplicate is detected if the event is among this many newest."""
POSITION_LENGTH = 14
"""Characters before the item id in `recent`: 0 for seeded or 1 for live events, then 13 hexadecimal digits."""
DEFAULT_HALF_LIFE_SECONDS = 30 * 86_400.0

POPULAR = "popular"
POPULAR_LIVE = "popular:live"
POPULAR_CLOCK = "popular:clock"
SEQUENCE = "events:sequence"

_RECORD_EVENTS = Path(__file__).with_name("record_events.lua").read_text()
_RECORD_EVENTS_SHA = hashlib.sha1(_RECORD_EVENTS.encode(), usedforsecurity=False).hexdigest()


def recent_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:recent"


def seen_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:seen"


def attributes_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:attributes"


def precomputed_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:precomputed"


def event_ids_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:event_ids"


def seeded_member(position: int, item_id: str) -> str:
    """The member of `recent` for an item at a position of the user's log. Seeding is idempotent."""
    return f"0{position:013x}{item_id}"


def store_precomputed(
    pipeline: "Pipeline", user_id: str, release_version: int, item_ids: Sequence[str], ttl_seconds: int
) -> None:
    """Add the commands that store a user's list by a release, best item first. Lists by other releases stay."""
    pipeline.hset(precomputed_key(user_id), str(release_version), json.dumps(item_ids))
    pipeline.expire(precomputed_key(user_id), ttl_seconds)


def open_redis(url: str) -> "Redis":
    """A client with one connection pool. A stale connection is reopened once; an unreachable server fails at once.

    Handshake commands are turned off: they add four round trips to a new connection, too many for a request's deadline
    if one takes 50 ms.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=0.2,
        protocol=2,
        driver_info=None,
        socket_timeout=1.0,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )
    return Redis.from_pool(pool)


class RedisFeatureStore:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._upstream = Upstream(REDIS)

    async def user_features(self, user_id: str) -> UserFeatures:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(recent_key(user_id), 0, -1)
        pipeline.zrange(seen_key(user_id), -1 - SHIPPED_SEEN, -1)
        pipeline.hgetall(attributes_key(user_id))
        async with self._call():
            recent, seen, attributes = await pipeline.execute()
        return UserFeatures(
            user_id=user_id,
            known=bool(recent or attributes),
            recent_items=[member[POSITION_LENGTH:] for member in recent],
            seen_items=seen[-SHIPPED_SEEN:],
            more_seen=len(seen) > SHIPPED_SEEN,
            attributes=attributes,
        )

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        if not item_ids:
            return set()
        async with self._call():
            times = await self._redis.zmscore(seen_key(user_id), list(item_ids))
        return {item_id for item_id, time_seen in zip(item_ids, times, strict=True) if time_seen is not None}

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:
        async with self._call():
            by_release = await self._redis.hgetall(precomputed_key(user_id))
        usable = [int(version) for version in by_release if int(version) <= release_version]
        if not usable:
            return None
        version = max(usable)
        return PrecomputedList(release_version=version, item_ids=json.loads(by_release[str(version)]))

    async def record(self, events: Sequence[Event], known_items: Collection[str]) -> RecordedEvents:
        async with self._call():
            try:
                new = await self._record(events, known_items)
            except NoScriptError:  # a new server; events that were already recorded are detected as duplicates
                await self._redis.script_load(_RECORD_EVENTS)
                new = await self._record(events, known_items)
        return RecordedEvents(new=new)

    async def popular(self, top_k: int) -> list[PopularItem]:
        async with self._call():
            best = await self._redis.zrange(POPULAR, 0, top_k - 1, desc=True, withscores=True)
        pairs = cast("list[tuple[str, float]]", best)
        return [PopularItem(item_id=item_id, popularity=popularity) for item_id, popularity in pairs]

    async def _record(self, events: Sequence[Event], known_items: Collection[str]) -> list[bool]:
        now = time.time()
        pipeline = self._redis.pipeline(transaction=False)
        by_user = sorted(range(len(events)), key=lambda place: events[place].user_id)
        for user_id, places in groupby(by_user, lambda place: events[place].user_id):
            fields: list[str | float] = []
            for event in (events[place] for place in places):
                fields += [event.event_id, event.item_id, event.timestamp, int(event.item_id in known_items)]
            keys = [recent_key(user_id), seen_key(user_id), event_ids_key(user_id)]
            keys += [POPULAR, POPULAR_LIVE, POPULAR_CLOCK, SEQUENCE]
            limits = [now, MAX_HISTORY, MAX_SEEN, MAX_EVENT_IDS, DEFAULT_HALF_LIFE_SECONDS]
            pipeline.evalsha(_RECORD_EVENTS_SHA, len(keys), *keys, *limits, *fields)
        replies = chain.from_iterable(await pipeline.execute())
        new = [False] * len(events)
        for place, is_new in zip(by_user, replies, strict=True):
            new[place] = bool(is_new)
        return new

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        async with self._upstream.call():
            with _translated_errors():
                yield


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate the client's errors. Messages of connection errors are dropped: they contain addresses."""
    try:
        yield
    except (RedisTimeoutError, TimeoutError) as error:
        raise UpstreamTimeout(f"{REDIS} did not answer in time") from error
    except (RedisConnectionError, OSError) as error:
        raise UpstreamUnavailable(f"{REDIS} cannot be reached") from error
    except RedisError as error:
        raise UpstreamUnavailable(f"{REDIS} rejected the command: {error}") from error
