"""Replay the test users of a split through a stack of its own: `SPLIT=temporal python -m local.evaluate_split`.

The model of a split is for measuring only. So it is served with a registry, an index and a Redis of its own, on free
ports and in a temporary folder: the registry that serves users never sees it. Every cut of the rolling split gets such
a stack, one after another.

The stack has no events. So the activity of items is what the release brings: that of the moment when the test begins,
which offline evaluation uses as well. The clock of this machine plays no part in it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from local import commands
from local.own_stack import own_settings
from local.settings import LocalSettings
from local.stores import running, stores_running
from local.tour import wait_until_ready
from recsys.errors import JobError
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release import Release
from recsys.model.release_manifest import ReleaseManifest
from training.indexing.build import index_release
from training.job import for_each_cut, run_job
from training.jobs.evaluate_served import compare_served, line_about
from training.model_directory import latest_model
from training.release_manifest import describe_release
from training.settings import IndexSettings, JobSettings, ServedSettings

SERVICES = ("feature_service", "ranker_service", "orchestrator")


def evaluate_split(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained and evaluated, or if the stack does not start."""
    directory = latest_model(settings.models_dir)
    with serving(settings, directory) as url:
        compared = compare_served(settings, directory, ServedSettings(orchestrator_url=url))
    return line_about(settings, directory, compared)


@contextmanager
def serving(settings: JobSettings, directory: Path) -> Iterator[str]:
    """The address of a stack that serves the model in `directory`. Everything is stopped after the block, and its state
    is deleted."""
    manifest = describe_release(directory)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-served-"))
        own = own_settings(Path(folder), settings.dataset)
        print(f"evaluate-served: starting a stack of its own for {directory.name} of {settings.split_name}", flush=True)
        stack.enter_context(stores_running(own))
        _make_champion(ModelRegistry(own.mlflow_url), manifest, directory, settings, own)
        for name in SERVICES:
            stack.enter_context(running(name, getattr(commands, name)(own), own))
        with httpx.Client(timeout=10) as client:
            problem = wait_until_ready(client, own, collector=False)
        if problem is not None:
            raise JobError(problem)
        yield own.orchestrator_url


def _make_champion(
    registry: ModelRegistry, manifest: ReleaseManifest, directory: Path, settings: JobSettings, own: LocalSettings
) -> None:
    """Of the stack's own registry, which has no other version."""
    version = registry.register(manifest, directory, params={}, history=[], report=None)
    index = IndexSettings(qdrant_url=None, qdrant_edge_dir=own.home / "qdrant")
    line = index_release(registry, Release.load(version, directory), directory, settings, index)
    print(f"evaluate-served: {line}", flush=True)
    registry.set_alias(CHAMPION, version)


if __name__ == "__main__":
    run_job("evaluate-served", for_each_cut(evaluate_split))
