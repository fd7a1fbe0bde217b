"""The port ItemActivity in Redis: every bucket counts the events of its users by day (`activity.lua`)."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.contracts.activity import ACTIVITY_DAYS, HALF_LIVES, ActiveDay, DayActivity, day_of

MAX_DAY_ITEMS = 1_000
"""Items that a bucket counts in a day, in the order of their first event: about 110 bytes each, so at most 55 MB in all
buckets and days. Events of further items count in the sums of all items, so their shares are too low."""
ALL = ""
"""The name under which a day has all its items together."""

FILL = Gauge("tandem_activity_fill_ratio", "Items counted in a day by the fullest bucket, relative to the bound.")


class RedisActivity:
    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def active_days(self) -> list[ActiveDay]:
        today = day_of(time.time())
        days = range(today - ACTIVITY_DAYS, today + 1)
        with translated_errors():
            buckets = await asyncio.gather(*(self._all_of_days(bucket, days) for bucket in range(keys.BUCKETS)))
        events = [sum(_Uses.parse(text).number for text in of_day if text) for of_day in zip(*buckets, strict=True)]
        return [ActiveDay(day=day, events=number) for day, number in zip(days, events, strict=True) if number]

    async def day_activity(self, day: int) -> DayActivity | None:
        uses = defaultdict[str, _Uses](_Uses)
        with translated_errors():
            sizes = await asyncio.gather(*(self._add_bucket(bucket, day, uses) for bucket in range(keys.BUCKETS)))
        if day == day_of(time.time()):
            FILL.set((max(sizes) - 1) / MAX_DAY_ITEMS if uses else 0)
        if not uses:
            return None
        together = uses.pop(ALL)
        return DayActivity(
            day=day,
            events=together.number,
            first=together.first,
            last=together.last,
            totals=together.sums,
            item_ids=list(uses),
            item_first=[each.first for each in uses.values()],
            weights=[[each.sums[place] for each in uses.values()] for place in range(len(HALF_LIVES))],
        )

    async def _add_bucket(self, bucket: int, day: int, uses: dict[str, "_Uses"]) -> int:
        """Add the bucket's uses; returns the number of names."""
        found: dict[Any, Any] = await self._redis.hgetall(keys.activity_key(bucket, day))
        for item_id, text in found.items():
            uses[item_id].add(_Uses.parse(text))
        return len(found)

    async def _all_of_days(self, bucket: int, days: Sequence[int]) -> list[str | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for day in days:
            pipeline.hget(keys.activity_key(bucket, day), ALL)
        found: list[str | None] = await pipeline.execute()
        return found


class _Uses:
    """Of one item in one day."""

    def __init__(self) -> None:
        self.first, self.last, self.number = 2**63, 0, 0
        self.sums = [0.0] * len(HALF_LIVES)

    @classmethod
    def parse(cls, text: str) -> "_Uses":
        uses = cls()
        first, last, number, *sums = text.split()
        uses.first, uses.last, uses.number = int(first), int(last), int(number)
        uses.sums = [float(each) for each in sums]
        return uses

    def add(self, other: "_Uses") -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.number += other.number
        self.sums = [one + another for one, another in zip(self.sums, other.sums, strict=True)]
