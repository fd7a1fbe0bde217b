"""Describe an evaluated model as a release: its files and their hashes, its metrics, and how to serve it."""

import json
from pathlib import Path

from recsys.contracts.event_kinds import EventKinds
from recsys.errors import JobError
from recsys.model.files import CONFIG_FILE, METRICS_FILE, SECOND_STAGE_FILE
from recsys.model.registry import ModelRegistry
from recsys.model.release_manifest import (
    FEATURE_SCHEMA_VERSION,
    RELEASE_FILE,
    RELEASE_FILES,
    SECOND_STAGE_FILES,
    ReleaseManifest,
    ReleasePolicy,
    hash_file,
)
from recsys.model.two_tower import TwoTowerConfig
from training.atomic import atomic_file
from training.model_directory import existing_final_fit, read_training


def describe_final_fit(directory: Path) -> ReleaseManifest:
    """Write the release.json of the model in `directory`, and that of its final fit, which is returned.

    Raises JobError if the model was not evaluated or has no final fit.
    """
    measured, final = describe_release(directory), existing_final_fit(directory)
    served = {"file_hashes": file_hashes(final), "validation_fit": measured.weights_hash}
    return _write(ReleaseManifest.model_validate({**measured.model_dump(), **served}), final)


def describe_release(directory: Path) -> ReleaseManifest:
    """Write the release.json of a model as it was measured. Raises JobError if it was not evaluated."""
    metrics_file = directory / METRICS_FILE
    if not metrics_file.exists():
        raise JobError(f"{directory} was not evaluated; run `make evaluate` first")
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    training = read_training(directory)
    config = TwoTowerConfig.load(directory / CONFIG_FILE)
    described = ReleaseManifest(
        fingerprint=directory.name,
        dataset=training["dataset"],
        data_hash=training["data_content_hash"],
        events_until=training.get("events_until"),
        started_from=training.get("started_from"),
        feature_schema_version=FEATURE_SCHEMA_VERSION,
        num_items=config.num_items,
        embedding_dim=config.embedding_dim,
        file_hashes=file_hashes(directory),
        policy=ReleasePolicy(
            exclude_seen=training["exclude_seen"],
            max_history=config.max_history,
            event_kinds=EventKinds.model_validate(training.get("event_kinds", {})),
        ),
        metrics={name: float(value) for name, value in metrics.items() if type(value) in (int, float)},
    )
    return _write(described, directory)


def _write(manifest: ReleaseManifest, directory: Path) -> ReleaseManifest:
    with atomic_file(directory / RELEASE_FILE) as partial:
        partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def file_hashes(directory: Path) -> dict[str, str]:
    """sha256, by name, of the files of a model's release."""
    has_second_stage = (directory / SECOND_STAGE_FILE).exists()
    files = (*RELEASE_FILES, *SECOND_STAGE_FILES) if has_second_stage else RELEASE_FILES
    return {name: hash_file(directory / name) for name in files}


def registered_version(registry: ModelRegistry, directory: Path) -> int | None:
    """The version that serves exactly the final fit of this model; None if it is not registered.

    Raises JobError if there is no final fit.
    """
    return registry.version_of(directory.name, file_hashes(existing_final_fit(directory)))
