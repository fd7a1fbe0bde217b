"""Replay the test users through a stack of its own: `python -m local.evaluate_served`, with SPLIT or without.

What is replayed is the fit that `make evaluate` measures: the final fit, which serves users, has learned from the test
items, and the model of a split in time is for measuring only. So the stack has a registry, an index and a Redis of its
own, on free ports and in a temporary folder: the registry that serves users never sees it. Every cut of the rolling
split gets such a stack, one after another.

The stack has no events. So the activity of items is what the release brings: that of the moment when the test begins,
which offline evaluation uses as well. The clock of this machine plays no part in it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from local import commands
from local.own_stack import own_settings
from local.settings import LocalSettings
from local.stores import running, stores_running
from local.tour import wait_until_ready
from recsys.errors import ReleaseError, UpstreamError
from recsys.model.registry import CHAMPION, VALIDATION_FIT_TAG, ModelRegistry
from recsys.model.release import Release
from recsys.model.release_manifest import ReleaseManifest, weights_of
from training.evaluation.served import SERVED_FILE, SERVED_PAGE, compare_served, line_about
from training.indexing.build import index_release
from training.job import for_each_cut, run_job
from training.model_directory import latest_model
from training.release_manifest import describe_release
from training.settings import IndexSettings, JobSettings, ServedSettings

SERVICES = ("feature_service", "ranker_service", "orchestrator")


def evaluate_served(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained and evaluated, or if the stack does not start."""
    directory, served = latest_model(settings.models_dir), ServedSettings()
    with serving(settings, directory) as url:
        compared = compare_served(settings, directory, url, served.served_users)
    return f"{line_about(settings, directory, compared)}; {record(settings, directory, compared, served)}"


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
        wait_until_ready(own, collector=False)
        yield own.orchestrator_url


def record(settings: JobSettings, directory: Path, compared: dict[str, Any], served: ServedSettings) -> str:
    """Add the measurements to the run of the release that has this validation fit; returns a clause about that."""
    if served.mlflow_tracking_uri is None:
        return "not recorded in MLflow, as MLFLOW_TRACKING_URI is not set"
    weights, report = weights_of(directory), settings.reports_dir / directory.name
    metrics = {f"served_{name}": value for name, value in compared["served"].items()}
    metrics |= {f"served_latency_{name}_ms": value for name, value in compared["latency_ms"].items()}
    registry = ModelRegistry(served.mlflow_tracking_uri)
    try:
        versions = (each.version for each in registry.versions() if each.tags.get(VALIDATION_FIT_TAG) == weights)
        version = next(versions, None)
        if version is None:
            return f"not recorded in MLflow, which has no version with the validation fit {weights}"
        registry.add_measurement(version, metrics, [report / SERVED_FILE, report / SERVED_PAGE])
    except (UpstreamError, ReleaseError) as error:
        return f"not recorded in MLflow: {error}"
    return f"recorded in the run of version {version}"


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
    run_job("evaluate-served", for_each_cut(evaluate_served))
