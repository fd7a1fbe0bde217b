"""The ranker's composition root."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import torch

from ranker_service.activity_watch import ActivityWatch
from ranker_service.release_watch import ReleaseWatch
from ranker_service.settings import RankerSettings
from ranker_service.skew_monitor import SkewMonitor
from recsys.adapters.http_clients import HttpFeatureStore
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.local_ranker import LocalRanker
from recsys.gc_tuning import tune_garbage_collection
from recsys.internal_token import internal_headers
from recsys.model.local_releases import LocalReleases
from recsys.model.memory_limit import memory_left
from recsys.model.registry import ModelRegistry


def open_release_watch(settings: RankerSettings, ranker: LocalRanker) -> ReleaseWatch:
    directory, registry = settings.releases_dir, ModelRegistry(settings.mlflow_tracking_uri)
    releases = LocalReleases(directory, registry, partial(memory_left, settings.memory_limit))
    return ReleaseWatch(releases, ranker, directory, settings.poll_seconds)


@asynccontextmanager
async def following_events(settings: RankerSettings, ranker: LocalRanker) -> AsyncIterator[None]:
    """Follows the live activity of items, and compares what the ranker serves with training."""
    async with AsyncExitStack() as stack:
        monitoring = asyncio.create_task(SkewMonitor(ranker).run())
        stack.callback(monitoring.cancel)
        source = None
        if settings.feature_service_url is not None:
            headers = internal_headers(settings.internal_token).items()
            source = HttpFeatureStore(await stack.enter_async_context(HttpPool(settings.feature_service_url, headers)))
        watch = ActivityWatch(source, ranker, settings.activity_seconds)
        stack.callback(watch.close)
        watch.start()
        yield


def tune_process() -> None:
    """One torch thread: a request's matrices are so small that a second thread adds more waiting than speed."""
    torch.set_num_threads(1)
    tune_garbage_collection()
