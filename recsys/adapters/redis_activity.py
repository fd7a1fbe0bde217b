"""The port ItemActivity in Redis: every bucket counts the events of its users by day (`activity.lua`)."""

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge

from recsys import clock
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.contracts.activity import ACTIVITY_DAYS, HALF_LIVES, ActiveDay, DayActivity, day_of

MAX_DAY_ITEMS = 1_000
"""Items that a bucket counts in a day, in the order of their first event: about 80 bytes each, so some 40 MB at most in
all buckets and days. Events of further items count in the sums of all items, so their shares are too low."""
ALL = ""
"""The name under which a day has all its items together."""

FILL = Gauge("tandem_activity_fill_ratio", "Items counted in a day by the fullest bucket, relative to the bound.")


Uses = list[float]
"""Of one item in one day: the times of the first and the last event, their number, and the sum by half-life."""


class RedisActivity:
    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def active_days(self) -> list[ActiveDay]:
        today = day_of(clock.now())
        days = range(today - ACTIVITY_DAYS, today + 1)
        with translated_errors():
            buckets = await asyncio.gather(*(self._all_of_days(bucket, days) for bucket in range(keys.BUCKETS)))
        events = [sum(_parsed(text)[2] for text in of_day if text) for of_day in zip(*buckets, strict=True)]
        return [ActiveDay(day=day, events=int(number)) for day, number in zip(days, events, strict=True) if number]

    async def day_activity(self, day: int) -> DayActivity | None:
        uses: dict[str, Uses] = {}
        with translated_errors():
            sizes = await asyncio.gather(*(self._add_bucket(bucket, day, uses) for bucket in range(keys.BUCKETS)))
        if day == day_of(clock.now()):
            FILL.set((max(sizes) - 1) / MAX_DAY_ITEMS if uses else 0)
        if not uses:
            return None
        first, last, number, *totals = uses.pop(ALL)
        return DayActivity(
            day=day,
            events=int(number),
            first=int(first),
            last=int(last),
            totals=totals,
            item_ids=list(uses),
            item_first=[int(each[0]) for each in uses.values()],
            weights=[[each[3 + place] for each in uses.values()] for place in range(len(HALF_LIVES))],
        )

    async def _add_bucket(self, bucket: int, day: int, uses: dict[str, Uses]) -> int:
        """Add the bucket's uses by item; returns the number of names."""
        found: dict[Any, Any] = await self._redis.hgetall(keys.activity_key(bucket, day))
        for item_id, text in found.items():
            new, known = _parsed(text), uses.get(item_id)
            if known is None:
                uses[item_id] = new
            else:
                sums = [one + another for one, another in zip(known[2:], new[2:], strict=True)]
                known[:] = [min(known[0], new[0]), max(known[1], new[1]), *sums]
        return len(found)

    async def _all_of_days(self, bucket: int, days: Sequence[int]) -> list[str | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for day in days:
            pipeline.hget(keys.activity_key(bucket, day), ALL)
        found: list[str | None] = await pipeline.execute()
        return found


def _parsed(text: str) -> Uses:
    return [float(number) for number in text.split()]
