"""Hand the latest trained model to the MLflow registry as a release: `python -m training.jobs.register`.

A model that was registered before keeps its version; nothing is uploaded twice.
"""

import json
from pathlib import Path
from typing import Any

from recsys.errors import JobError
from recsys.model.files import CONFIG_FILE, METRICS_FILE, SECOND_STAGE_FILE, TRAINING_FILE
from recsys.model.registry import MODEL_NAME, ModelRegistry
from recsys.model.release import (
    FEATURE_SCHEMA_VERSION,
    RELEASE_FILE,
    RELEASE_FILES,
    SECOND_STAGE_FILES,
    ReleaseManifest,
    ReleasePolicy,
    hash_file,
)
from recsys.model.two_tower import TwoTowerConfig
from training.atomic import atomic_file, exclusive_lock
from training.jobs.evaluate import latest_to_serve
from training.jobs.run import run_job
from training.settings import JobSettings, RegistrySettings


def register(settings: JobSettings) -> str:
    """The job. Raises JobError where no model is trained and evaluated, or where it is for measuring only."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    directory = latest_to_serve(settings)
    with exclusive_lock(directory / RELEASE_FILE):
        known = registry.version_of(directory.name)
        if known is not None:
            return f"{directory.name} is already version {known} of {MODEL_NAME}"
        manifest = describe_release(directory)
        training = json.loads((directory / TRAINING_FILE).read_text(encoding="utf-8"))
        report = settings.reports_dir / directory.name
        version = registry.register(
            manifest,
            directory,
            params=_params(training),
            history=_history(training),
            report=report if report.is_dir() else None,
        )
    return f"{directory.name} is version {version} of {MODEL_NAME}, with {len(manifest.metrics)} metrics"


def describe_release(directory: Path) -> ReleaseManifest:
    """Write release.json beside the files that it describes."""
    metrics_file = directory / METRICS_FILE
    if not metrics_file.exists():
        raise JobError(f"{directory} was not evaluated; run `make evaluate` first")
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    training = json.loads((directory / TRAINING_FILE).read_text(encoding="utf-8"))
    config = TwoTowerConfig.load(directory / CONFIG_FILE)
    has_second_stage = (directory / SECOND_STAGE_FILE).exists()
    files = (*RELEASE_FILES, *SECOND_STAGE_FILES) if has_second_stage else RELEASE_FILES
    manifest = ReleaseManifest(
        fingerprint=directory.name,
        dataset=training["dataset"],
        data_hash=training["data_content_hash"],
        feature_schema_version=FEATURE_SCHEMA_VERSION,
        num_items=config.num_items,
        embedding_dim=config.embedding_dim,
        file_hashes={name: hash_file(directory / name) for name in files},
        policy=ReleasePolicy(exclude_seen=training["exclude_seen"], max_history=config.max_history),
        metrics={name: float(value) for name, value in metrics.items() if type(value) in (int, float)},
    )
    with atomic_file(directory / RELEASE_FILE) as partial:
        partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _params(training: dict[str, Any]) -> dict[str, str]:
    flat = {name: value for name, value in training.items() if isinstance(value, str | int | float)}
    return {name: str(value) for name, value in {**flat, **training["params"]}.items()}


def _history(training: dict[str, Any]) -> list[tuple[str, float, int]]:
    return [
        (name, float(value), step)
        for step, record in enumerate(training["history"])
        for name, value in record.items()
        if isinstance(value, int | float)
    ]


if __name__ == "__main__":
    run_job("register", register)
