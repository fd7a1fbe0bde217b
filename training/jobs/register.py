"""Register the final fit of the latest model as a release in MLflow: `python -m training.jobs.register`.

The metrics and the report are those of the validation fit, which is stored with it.

A model that is already registered keeps its version and is not uploaded again. Models that were trained with the same
settings but have other weights are different models.
"""

from typing import Any

from recsys.model.registry import MODEL_NAME, ModelRegistry
from recsys.model.release_manifest import RELEASE_FILE
from training.atomic import exclusive_lock
from training.job import run_job
from training.model_directory import existing_final_fit, latest_to_serve, read_training
from training.release_manifest import describe_final_fit, registered_version
from training.settings import JobSettings, RegistrySettings


def register(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained and evaluated, if it has no final fit, or if it is for measuring
    only.
    """
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    directory = latest_to_serve(settings)
    with exclusive_lock(directory / RELEASE_FILE):
        registered = registered_version(registry, directory)
        if registered is not None:
            return f"{directory.name} is already version {registered} of {MODEL_NAME}"
        manifest = describe_final_fit(directory)
        training = read_training(directory)
        report = settings.reports_dir / directory.name
        version = registry.register(
            manifest,
            existing_final_fit(directory),
            params=_params(training),
            history=_history(training),
            report=report if report.is_dir() else None,
            validation_fit=directory,
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
