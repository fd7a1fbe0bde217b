"""The collector's composition root: connects Redis with the files, and closes the connection on shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events.collector import Collector
from events.log_files import LogFiles
from events.reporter import Reporter
from events.settings import CollectorSettings
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_log_reader import RedisLogReader
from recsys.adapters.redis_reports import RedisReports


@asynccontextmanager
async def open_collector(settings: CollectorSettings) -> AsyncIterator[tuple[Collector, Reporter]]:
    redis = open_redis(settings.redis_url)
    collector = Collector(RedisLogReader(redis), LogFiles(settings.event_log), seconds=settings.seconds)
    reporter = Reporter(settings.event_log, RedisReports(redis), seconds=settings.report_seconds)
    running = [asyncio.create_task(collector.run()), asyncio.create_task(reporter.run())]
    try:
        yield collector, reporter
    finally:
        for each in running:
            each.cancel()
        await redis.aclose()
