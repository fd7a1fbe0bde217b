"""The feature service's composition root: opens the feature store, and closes it on shutdown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from feature_service.settings import FeatureServiceSettings
from recsys.adapters.redis_feature_store import RedisFeatureStore, open_redis


@asynccontextmanager
async def open_feature_store(settings: FeatureServiceSettings) -> AsyncIterator[RedisFeatureStore]:
    redis = open_redis(settings.redis_url)
    try:
        yield RedisFeatureStore(redis)
    finally:
        await redis.aclose()
