"""The popularity of items over all buckets: reading it, and counting it again when a log is seeded.

The weight of an item is the sum over users of the weight of their last event with it (`popularity.lua`). So an event
that arrives twice counts once, and one user's weight per item is that of one event.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Container, Sequence
from typing import Any

from recsys import clock
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import BlockingClient, Client
from recsys.adapters.redis_scripts import PUBLISH_POPULAR
from recsys.contracts.base import MAX_CANDIDATES
from recsys.contracts.features import PopularItem

DEFAULT_HALF_LIFE_SECONDS = 30 * 86_400
MAX_POPULAR = 10_000
"""Items that a bucket counts. With more, those with the least popularity are forgotten."""
LANDMARK = 1_700_000_000
"""The same as in `popularity.lua`: an event at this Unix time weighs 1."""
NEXT_TTL_SECONDS = 86_400
"""When the counts of an interrupted seed job expire."""


class MergedPopularity:
    """The most popular items of all buckets together, kept for a while so that reads do not ask every bucket.

    A bucket returns its MAX_CANDIDATES best items, with exact sums. Users are hashed evenly, so every bucket counts a
    random sample of the users, and an item that is popular overall is among the best of nearly every bucket. The sum of
    an item near the last place may miss the few users of a bucket that ranks it lower. With only 190 users per bucket
    and 5,000 items, 96 of the first 100 items are those of the complete sums.
    """

    def __init__(self, redis: Client, max_age_seconds: float) -> None:
        self._redis = redis
        self._max_age_seconds = max_age_seconds
        self._read_at = float("-inf")
        self._items: list[PopularItem] = []
        self._reading = asyncio.Lock()

    async def read(self) -> list[PopularItem]:
        """At most MAX_CANDIDATES items, best first. Raises the errors of the client."""
        async with self._reading:
            if time.monotonic() - self._read_at >= self._max_age_seconds:
                self._items = await self._read()
                self._read_at = time.monotonic()
            return self._items

    async def _read(self) -> list[PopularItem]:
        # Side by side, and not in one pipeline: the replies are parsed one by one, and the event loop runs in between.
        buckets = await asyncio.gather(*map(self._read_bucket, range(keys.BUCKETS)))
        age = LANDMARK - clock.now()
        decays = [age / float(half_life or DEFAULT_HALF_LIFE_SECONDS) for _, half_life in buckets]
        # Relative to the first bucket, so that as long as all have one half-life the sums are the same in every read.
        sums = defaultdict[str, float](float)
        for (best, _), decay in zip(buckets, decays, strict=True):
            relative = 2.0 ** (decay - decays[0])
            for item_id, weight in best:
                sums[item_id] += weight * relative
        present = 2.0 ** decays[0]
        best_first = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_CANDIDATES]
        return [PopularItem(item_id=item_id, popularity=weight * present) for item_id, weight in best_first]

    async def _read_bucket(self, bucket: int) -> Sequence[Any]:
        """The bucket's best items with their weights, and the half-life."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(keys.popular_key(bucket), 0, MAX_CANDIDATES - 1, desc=True, withscores=True)
        pipeline.hget(keys.clock_key(bucket), "half_life")
        return await pipeline.execute()


def start_counting(redis: BlockingClient, half_life_seconds: float, log_end: float) -> None:
    """Begin to count all users again. Events that are recorded from now on count for users already counted, too.

    The end of the log counts as the present, so that events of today do not outweigh an old log.
    """
    fields = {"half_life": half_life_seconds, "log_end": log_end, "log_age": max(0.0, clock.now() - log_end)}
    pipeline: Any = redis.pipeline(transaction=False)
    for bucket in range(keys.BUCKETS):
        pipeline.delete(keys.next_clock_key(bucket))
        pipeline.delete(keys.next_popular_key(bucket))
        pipeline.delete(keys.counted_key(bucket))
        pipeline.hset(keys.next_clock_key(bucket), mapping=fields)
        pipeline.expire(keys.next_clock_key(bucket), NEXT_TTL_SECONDS)
    pipeline.execute()


def publish_counts(redis: BlockingClient, catalogue: Container[str]) -> int:
    """Serve the new counts, without items that the catalogue does not have; returns the number of items."""
    published: set[str] = set()
    for bucket in range(keys.BUCKETS):
        counting = keys.next_popular_key(bucket)
        item_ids = {item_id for item_id, _ in redis.zscan_iter(counting, count=1000)}
        unknown = [item_id for item_id in item_ids if item_id not in catalogue]
        for start in range(0, len(unknown), 1000):
            redis.zrem(counting, *unknown[start : start + 1000])
        redis.zremrangebyrank(counting, 0, -1 - MAX_POPULAR)
        published |= item_ids.difference(unknown)
        touched = [keys.popular_key(bucket), keys.clock_key(bucket), counting]
        touched += [keys.next_clock_key(bucket), keys.counted_key(bucket)]
        redis.eval(PUBLISH_POPULAR.text, len(touched), *touched)
    return len(published)
