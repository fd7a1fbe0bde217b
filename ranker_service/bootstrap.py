"""The ranker's composition root."""

from functools import partial

import torch

from ranker_service.release_watch import ReleaseWatch
from ranker_service.settings import RankerSettings
from recsys.adapters.local_ranker import LocalRanker
from recsys.gc_tuning import tune_garbage_collection
from recsys.model.local_releases import LocalReleases
from recsys.model.memory_limit import memory_left
from recsys.model.registry import ModelRegistry


def open_release_watch(settings: RankerSettings, ranker: LocalRanker) -> ReleaseWatch:
    directory, registry = settings.releases_dir, ModelRegistry(settings.mlflow_tracking_uri)
    releases = LocalReleases(directory, registry, partial(memory_left, settings.memory_limit))
    return ReleaseWatch(releases, ranker, directory, settings.poll_seconds)


def tune_process() -> None:
    """One torch thread: a request's matrices are so small that a second thread adds more waiting than speed."""
    torch.set_num_threads(1)
    tune_garbage_collection()
