"""Hand the latest trained model to the MLflow registry as a release: `python -m training.jobs.register`.

A model that was registered before keeps its version; nothing is uploaded twice.
"""

from typing import Any

from recsys.model.registry import MODEL_NAME, ModelRegistry
from recsys.model.release import RELEASE_FILE
from training.atomic import exclusive_lock
from training.job import run_job
from training.model_directory import latest_to_serve, read_training
from training.release_manifest import describe_release
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
        training = read_training(directory)
        report = settings.reports_dir / directory.name
        version = registry.register(
            manifest,
            directory,
            params=_params(training),
            history=_history(training),
            report=report if report.is_dir() else None,
        )
    return f"{directory.name} is version {version} of {MODEL_NAME}, with {len(manifest.metrics)} metrics"


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
