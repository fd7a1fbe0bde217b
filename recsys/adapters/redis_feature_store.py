"""The port FeatureStore in Redis, with one round trip per call. `recsys.adapters.redis_keys` describes the keys."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import chain, groupby

from prometheus_client import Counter
from redis.exceptions import NoScriptError

from recsys import clock
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_activity import MAX_DAY_ITEMS
from recsys.adapters.redis_client import Client, translated_errors
from recsys.adapters.redis_event_log import FULL, MAX_LOG_ENTRIES, log_is_full
from recsys.adapters.redis_popularity import DEFAULT_HALF_LIFE_SECONDS, MAX_POPULAR, MergedPopularity
from recsys.adapters.redis_scripts import RECORD_EVENTS
from recsys.adapters.upstream import REDIS, Upstream
from recsys.contracts.activity import ACTIVITY_DAYS, HALF_LIVES, day_of
from recsys.contracts.base import MAX_DISLIKED, MAX_HISTORY
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds, KindMeaning
from recsys.contracts.event_log import LoggedEvent
from recsys.contracts.events import Event, RecordedEvents
from recsys.contracts.features import SHIPPED_SEEN, PopularItem, PrecomputedList, UserFeatures
from recsys.errors import StorageFull
from recsys.steps import latest_steps

MAX_RECENT = 500
"""Events in `recent`. When there are more, only what the newest MAX_HISTORY steps need is kept."""
MAX_SEEN = 10_000
MAX_EVENT_IDS = 1_000
"""Per user: a duplicate is detected if the event is among this many newest."""
MAX_ACTIVE = 200_000 // keys.BUCKETS
"""Users in the `active` set of a bucket."""
USER_TTL_SECONDS = 180 * 86_400

REFUSED = Counter("tandem_events_refused_total", "Events refused because Redis, or the log in it, is full.")


class RedisFeatureStore:
    def __init__(
        self,
        redis: Client,
        *,
        user_ttl_seconds: int = USER_TTL_SECONDS,
        popular_seconds: float = 0.0,
        is_full: Callable[[], bool] = lambda: False,
        max_log_entries: int = MAX_LOG_ENTRIES,
    ) -> None:
        """`popular_seconds`: how old popular items may be. `is_full`: whether to refuse new events. `max_log_entries`:
        events that may wait in the log, in all its streams together."""
        self._redis = redis
        self._user_ttl_seconds = user_ttl_seconds
        self._is_full = is_full
        self._max_log = max_log_entries // keys.BUCKETS
        self._upstream = Upstream(REDIS)
        self._popularity = MergedPopularity(redis, popular_seconds)

    async def user_features(self, user_id: str) -> UserFeatures:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(keys.recent_key(user_id), 0, -1)
        pipeline.zrange(keys.seen_key(user_id), -1 - SHIPPED_SEEN, -1)
        pipeline.hgetall(keys.attributes_key(user_id))
        pipeline.zrange(keys.disliked_key(user_id), 0, -1)
        async with self._call():
            recent, seen, attributes, disliked = await pipeline.execute()
        return UserFeatures(
            user_id=user_id,
            known=bool(recent or attributes),
            recent_items=latest_steps(keys.recent_items(recent), MAX_HISTORY),
            seen_items=seen[-SHIPPED_SEEN:],
            disliked_items=disliked,
            more_seen=len(seen) > SHIPPED_SEEN,
            attributes=attributes,
        )

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        if not item_ids:
            return set()
        async with self._call():
            times = await self._redis.zmscore(keys.seen_key(user_id), list(item_ids))
        return {item_id for item_id, last_event in zip(item_ids, times, strict=True) if last_event is not None}

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:
        async with self._call():
            by_release = await self._redis.hgetall(keys.precomputed_key(user_id))
        usable = [int(version) for version in by_release if int(version) <= release_version]
        if not usable:
            return None
        version = max(usable)
        return PrecomputedList(release_version=version, item_ids=json.loads(by_release[str(version)]))

    async def record(
        self, events: Sequence[Event], known_items: Collection[str], kinds: EventKinds = DEFAULT_KINDS
    ) -> RecordedEvents:
        try:
            if self._is_full():
                raise StorageFull(f"{REDIS} is almost full; no new events are stored")
            async with self._call():
                try:
                    new = await self._record(events, known_items, kinds)
                except NoScriptError:  # a new server; events that were already recorded are detected as duplicates
                    await self._redis.script_load(RECORD_EVENTS.text)
                    new = await self._record(events, known_items, kinds)
        except StorageFull:
            REFUSED.inc(len(events))
            raise
        return RecordedEvents(new=new)

    async def popular(self, top_k: int) -> list[PopularItem]:
        """Items by popularity at the moment of reading or up to `popular_seconds` before; see `MergedPopularity`."""
        async with self._call():
            return (await self._popularity.read())[:top_k]

    async def ping(self) -> None:
        """Raises UpstreamError if Redis does not answer."""
        async with self._call():
            await self._redis.ping()

    async def _record(self, events: Sequence[Event], known_items: Collection[str], kinds: EventKinds) -> list[bool]:
        now = clock.now()
        pipeline = self._redis.pipeline(transaction=False)
        oldest_day = day_of(now) - ACTIVITY_DAYS
        by_user = sorted(range(len(events)), key=lambda place: events[place].user_id)
        for user_id, places in groupby(by_user, lambda place: events[place].user_id):
            fields: list[str | float] = []
            touched = keys.touched_by_events(user_id)
            place_of_day = dict[int, int]()
            for event in (events[place] for place in places):
                timestamp = min(event.timestamp, now)
                fields += [keys.event_id_member(event.event_id), event.item_id]
                fields += [keys.content_of(int(timestamp), event.event), timestamp, int(event.item_id in known_items)]
                day = day_of(timestamp)
                if day >= oldest_day and day not in place_of_day:
                    touched.append(keys.activity_key(keys.bucket_of(user_id), day))
                    place_of_day[day] = len(touched)
                meaning = kinds.of(event.event)
                fields += [LoggedEvent.of(event, now, meaning).model_dump_json(), place_of_day.get(day, 0)]
                fields.append(_effect(meaning))
            limits = [self._user_ttl_seconds, MAX_HISTORY, MAX_RECENT, MAX_SEEN, MAX_EVENT_IDS, MAX_ACTIVE, MAX_POPULAR]
            numbers = [now, *limits, DEFAULT_HALF_LIFE_SECONDS, self._max_log]
            numbers += [MAX_DAY_ITEMS, ACTIVITY_DAYS, *HALF_LIVES, MAX_DISLIKED]
            pipeline.execute_command("EVALSHA", RECORD_EVENTS.sha, len(touched), *touched, user_id, *numbers, *fields)
        replies = list(chain.from_iterable(await pipeline.execute()))
        if (
            FULL in replies
        ):  # other users' events of the batch may be recorded; they are duplicates when it is sent again
            raise log_is_full()
        new = [False] * len(events)
        for place, is_new in zip(by_user, replies, strict=True):
            new[place] = bool(is_new)
        return new

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        async with self._upstream.call():
            with translated_errors():
                yield


def _effect(meaning: KindMeaning) -> int:
    """The bits of `record_events.lua`."""
    return 1 * meaning.in_history + 2 * meaning.marks_seen + 4 * meaning.negative
