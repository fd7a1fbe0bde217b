"""Build the Qdrant collection of the newest release and verify it: `python -m training.index`."""

from recsys.model.registry import ModelRegistry
from training.indexing import index_version, newest_version
from training.job import run_job
from training.settings import JobSettings, RegistrySettings


def index(settings: JobSettings) -> str:
    """The job. Raises JobError if no version is registered, or the collection holds other vectors than the release."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    return index_version(registry, newest_version(registry, settings), settings)


if __name__ == "__main__":
    run_job("index", index)
