"""The feature service's composition root: opens the feature store, and closes it on shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from feature_service.settings import FeatureServiceSettings
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.adapters.redis_memory import RedisMemory


@asynccontextmanager
async def open_feature_store(settings: FeatureServiceSettings) -> AsyncIterator[RedisFeatureStore]:
    redis = open_redis(settings.redis_url)
    memory = RedisMemory(redis)
    watching = asyncio.create_task(memory.run())
    try:
        yield RedisFeatureStore(
            redis,
            user_ttl_seconds=settings.user_ttl_seconds,
            popular_seconds=settings.popular_seconds,
            is_full=lambda: memory.is_full,
        )
    finally:
        watching.cancel()
        await redis.aclose()
