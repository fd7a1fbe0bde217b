"""Processes that only the contract tests need."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from local.settings import HOST, LocalSettings
from recsys.adapters.redis_client import Client, open_redis
from recsys.adapters.redis_keys import BUCKETS
from recsys.adapters.redis_log_reader import RedisLogReader
from recsys.contracts.event_log import LogTable
from tests.contract.redis_cluster import redis_cluster
from tests.engines import local_settings, running


@pytest.fixture(scope="session")
def feature_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """A Redis, which each test empties itself, and the feature service in front of it."""
    settings = local_settings(tmp_path_factory.mktemp("features"))
    with running(settings, "redis", "feature_service"):
        yield settings


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis Cluster of three servers, which each test empties itself."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


def redis_url(settings: LocalSettings) -> str:
    return f"redis://{HOST}:{settings.redis_port}/0"


@asynccontextmanager
async def emptied(url: str) -> AsyncIterator[Client]:
    """A client of an empty Redis."""
    redis = open_redis(url)
    await redis.flushall()
    yield redis
    await redis.aclose()


async def drained(redis: Client, table: LogTable) -> list[str]:
    """The entries of all streams of a table, which are removed."""
    reader, entries = RedisLogReader(redis), []
    for bucket in range(BUCKETS):
        while (batch := await reader.next_batch(table, bucket, max_entries=50)).ids:
            entries += batch.entries
            await reader.forget(batch)
    return entries
