"""Remove the collections of old releases: `python -m training.jobs.prune`. Versions with an alias are kept.

The registry keeps every version, so a removed collection can be built again with `make promote VERSION=<n>`.
"""

import asyncio
from collections.abc import Iterable

from recsys.adapters.open_index import open_index
from recsys.model.registry import ModelRegistry
from training.job import run_job
from training.settings import IndexSettings, JobSettings, RegistrySettings, ReleaseSettings


def prune(_: JobSettings) -> str:
    """The job."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    serving = set(registry.aliases().values())
    versions = [each.version for each in registry.versions()]
    kept = {*versions[: ReleaseSettings().keep], *serving}
    removed = asyncio.run(_drop([version for version in versions if version not in kept], IndexSettings()))
    return f"removed {_names(removed) or 'nothing'}; kept {_names(kept)}"


async def _drop(versions: list[int], settings: IndexSettings) -> list[int]:
    """The versions whose collections were removed."""
    index = open_index(settings.qdrant_url, settings.qdrant_api_key, settings.qdrant_edge_dir)
    try:
        found = sorted(set(versions) & set(await index.collections()))
        for version in found:
            await index.drop(version)
    finally:
        await index.close()
    return found


def _names(versions: Iterable[int]) -> str:
    return ", ".join(f"items_v{version}" for version in sorted(versions))


if __name__ == "__main__":
    run_job("prune", prune)
