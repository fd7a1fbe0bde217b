"""The collector's composition root: connects Redis with the files, and closes the connection on shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events.collector import Collector
from events.log_files import LogFiles
from events.settings import CollectorSettings
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_log_reader import RedisLogReader


@asynccontextmanager
async def open_collector(settings: CollectorSettings) -> AsyncIterator[Collector]:
    redis = open_redis(settings.redis_url)
    collector = Collector(RedisLogReader(redis), LogFiles(settings.event_log), seconds=settings.seconds)
    collecting = asyncio.create_task(collector.run())
    try:
        yield collector
    finally:
        collecting.cancel()
        await redis.aclose()
