"""The feature service's composition root: opens everything that is in Redis, and closes it on shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from feature_service.settings import FeatureServiceSettings
from recsys.adapters.redis_activity import RedisActivity
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_event_log import RedisEventLog
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.adapters.redis_log_status import RedisLogStatus
from recsys.adapters.redis_memory import RedisMemory
from recsys.adapters.redis_reports import RedisReports


@dataclass(frozen=True, slots=True)
class Stores:
    """The objects that the endpoints use."""

    features: RedisFeatureStore
    event_log: RedisEventLog
    item_activity: RedisActivity
    reports: RedisReports


@asynccontextmanager
async def open_stores(settings: FeatureServiceSettings) -> AsyncIterator[Stores]:
    redis = open_redis(settings.redis_url)
    memory = RedisMemory(redis)
    log_status = RedisLogStatus(redis, max_log_entries=settings.log_entries)
    watching = [asyncio.create_task(memory.run()), asyncio.create_task(log_status.run())]
    is_full = lambda: memory.is_full  # noqa: E731
    try:
        features = RedisFeatureStore(
            redis,
            user_ttl_seconds=settings.user_ttl_seconds,
            popular_seconds=settings.popular_seconds,
            is_full=is_full,
            max_log_entries=settings.log_entries,
        )
        event_log = RedisEventLog(redis, is_full=is_full, max_log_entries=settings.log_entries)
        yield Stores(features, event_log, RedisActivity(redis), RedisReports(redis))
    finally:
        for each in watching:
            each.cancel()
        await redis.aclose()
