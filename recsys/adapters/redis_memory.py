"""Watches the memory of Redis: measures what users need, and says when there is no room for new events."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import Gauge
from redis.asyncio import RedisCluster

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.errors import UpstreamError

FULL = 0.95
"""The share of maxmemory from which on new events are refused, before Redis itself refuses them."""
SECONDS_BETWEEN = 5.0
USERS_PER_BUCKET = 2
"""Recently active users whose memory is measured."""

USED = Gauge("tandem_redis_used_bytes", "Memory used by Redis; in a cluster, by the fullest server.")
LIMIT = Gauge("tandem_redis_maxmemory_bytes", "The memory limit of that server; 0 for no limit.")
USER = Gauge("tandem_redis_user_bytes", "Mean memory of a sample of recently active users.")

log = structlog.get_logger()


class RedisMemory:
    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._is_full = False

    @property
    def is_full(self) -> bool:
        """Whether Redis was almost full at the last measurement."""
        return self._is_full

    async def run(self) -> None:
        """Measure for ever. If Redis cannot be measured, the last measurement stays."""
        while True:
            try:
                await self.measure()
            except UpstreamError as error:
                log.warning("redis_memory_not_measured", error=str(error))
            await asyncio.sleep(SECONDS_BETWEEN)

    async def measure(self) -> None:
        """Update the metrics and `is_full`. Raises UpstreamError."""
        with translated_errors():
            used, limit = max(
                map(_usage, await self._servers()), key=lambda usage: usage[0] / (usage[1] or float("inf"))
            )
            per_user = await self._bytes_per_user()
        USED.set(used)
        LIMIT.set(limit)
        USER.set(per_user)
        was_full, self._is_full = self._is_full, bool(limit) and used >= FULL * limit
        if self._is_full != was_full:
            log.warning("redis_is_full" if self._is_full else "redis_has_room", used=used, maxmemory=limit)

    async def _servers(self) -> Sequence[dict[str, Any]]:
        """What INFO says about the memory of each server that stores keys of its own."""
        if isinstance(self._redis, RedisCluster):
            by_node: Any = await self._redis.info("memory", target_nodes=RedisCluster.PRIMARIES)
            return list(by_node.values())
        return [await self._redis.info("memory")]

    async def _bytes_per_user(self) -> float:
        pipeline = self._redis.pipeline(transaction=False)
        for bucket in range(keys.BUCKETS):
            pipeline.zrange(keys.active_key(bucket), 0, USERS_PER_BUCKET - 1, desc=True)
        users = [user_id for active in await pipeline.execute() for user_id in active]
        if not users:
            return 0.0
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in users:
            for key in keys.user_keys(user_id):
                pipeline.memory_usage(key)
        return sum(size or 0 for size in await pipeline.execute()) / len(users)


def _usage(info: dict[str, Any]) -> tuple[int, int]:
    return int(info["used_memory"]), int(info["maxmemory"])
