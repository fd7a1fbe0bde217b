"""Remove the collections of old releases: `python -m training.prune`. What an alias names is never touched.

The registry keeps every version, so a removed collection can be built again: `make promote VERSION=<n>`.
"""

import shutil

from qdrant_client import QdrantClient

from recsys.adapters.qdrant_points import collection_name
from recsys.model.registry import ModelRegistry
from training.job import run_job
from training.settings import IndexSettings, JobSettings, RegistrySettings, ReleaseSettings


def prune(_: JobSettings) -> str:
    """The job."""
    registry, settings = ModelRegistry(RegistrySettings().mlflow_tracking_uri), IndexSettings()
    serving = set(registry.aliases().values())
    versions = [each.version for each in registry.versions()]
    kept = {*versions[: ReleaseSettings().keep], *serving}
    old = [collection_name(version) for version in versions if version not in kept]
    removed = _remove_folders(old, settings) if settings.qdrant_url is None else _remove_on_server(old, settings)
    return (
        f"removed {', '.join(removed) or 'nothing'}; kept {', '.join(collection_name(each) for each in sorted(kept))}"
    )


def _remove_folders(names: list[str], settings: IndexSettings) -> list[str]:
    found = [name for name in names if (settings.qdrant_edge_dir / name).is_dir()]
    for name in found:
        shutil.rmtree(settings.qdrant_edge_dir / name)
    return found


def _remove_on_server(names: list[str], settings: IndexSettings) -> list[str]:
    client = QdrantClient(settings.qdrant_url, api_key=settings.qdrant_api_key, check_compatibility=False)
    try:
        found = [name for name in names if client.collection_exists(name)]
        for name in found:
            client.delete_collection(name)
    finally:
        client.close()
    return found


if __name__ == "__main__":
    run_job("prune", prune)
