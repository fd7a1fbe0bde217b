"""Build a release's Qdrant collection and find the best way to search it: `python -m training.jobs.index`."""

from recsys.model.registry import ModelRegistry
from training.indexing.build import index_version, newest_version
from training.job import run_job
from training.settings import JobSettings, RegistrySettings, ReleaseSettings


def index(settings: JobSettings) -> str:
    """The job. Raises JobError if no version is registered, or the collection holds other vectors than the release."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    version = ReleaseSettings().version or newest_version(registry, settings)
    return index_version(registry, version, settings)


if __name__ == "__main__":
    run_job("index", index)
