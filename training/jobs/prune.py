"""Remove the collections and the local files of old releases: `python -m training.jobs.prune`.

Versions with an alias are kept. The registry keeps every version, so a removed collection can be built again with
`make promote VERSION=<n>`.
"""

import asyncio
from collections.abc import Iterable

from recsys.adapters.open_index import open_index
from recsys.model.registry import FINGERPRINT_TAG, ModelRegistry
from training.job import run_job
from training.old_models import remove_old_models
from training.settings import IndexSettings, JobSettings, RegistrySettings, ReleaseSettings


def prune(settings: JobSettings) -> str:
    """The job."""
    keep = ReleaseSettings().keep
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    serving = set(registry.aliases().values())
    registered = registry.versions()
    versions = [each.version for each in registered]
    kept = {*versions[:keep], *serving}
    removed = asyncio.run(_drop([version for version in versions if version not in kept], IndexSettings()))
    fingerprints = {each.tags.get(FINGERPRINT_TAG, "") for each in registered if each.version in serving}
    old = remove_old_models(settings.models_dir, settings.reports_dir, keep, fingerprints)
    return f"removed {_names(removed) or 'nothing'} and {len(old)} local directories; kept {_names(kept)}"


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
