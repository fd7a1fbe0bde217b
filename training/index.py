"""Build the Qdrant collection of the newest release and verify it: `python -m training.index`.

A collection that finds too little of what exact search finds is not kept for use: the job fails.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, QdrantClient
from tqdm import tqdm

from recsys.adapters.qdrant_candidate_index import (
    QdrantCandidateIndex,
    build_server_collection,
    server_collection_holds,
)
from recsys.adapters.qdrant_edge_candidate_index import (
    QdrantEdgeCandidateIndex,
    build_edge_collection,
    edge_collection_holds,
    publish_edge_collection,
)
from recsys.adapters.qdrant_points import IndexedItem, collection_name
from recsys.contracts.retrieval import CatalogueItem
from recsys.errors import JobError
from recsys.model.files import ITEMS_FILE
from recsys.model.registry import ModelRegistry
from recsys.model.release import Release
from recsys.ports import CandidateIndex
from training.evaluate import latest_to_serve
from training.job import run_job
from training.settings import IndexSettings, JobSettings, RegistrySettings
from training.whole import only_one_at

BATCH = 500
BUILD_TIMEOUT_SECONDS = 60
SAMPLED_QUERIES = 200
RECALL_DEPTH = 100
RECALL_TAG = f"recall_at_{RECALL_DEPTH}"
LEAST_RECALL = 0.98


def index(settings: JobSettings) -> str:
    """The job. Raises JobError where no version is registered, or the collection does not find what it holds."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    return index_version(registry, newest_version(registry, settings))


def newest_version(registry: ModelRegistry, settings: JobSettings) -> int:
    """The version of the model that was trained last. Raises JobError where it is not registered."""
    fingerprint = latest_to_serve(settings).name
    version = registry.version_of(fingerprint)
    if version is None:
        raise JobError(f"{fingerprint} is not registered; run `make register` first")
    return version


def index_version(registry: ModelRegistry, version: int) -> str:
    """Build and verify a version's collection, unless it is there; says what was done."""
    settings = IndexSettings()
    with tempfile.TemporaryDirectory() as scratch:
        registry.fetch(version, Path(scratch))
        release, items_file = Release.load(version, Path(scratch)), Path(scratch) / ITEMS_FILE
        if settings.qdrant_url is None:
            recall = _index_in_folder(release, items_file, settings.qdrant_edge_dir)
        else:
            verified = RECALL_TAG in registry.tags_of(version)
            url, api_key = settings.qdrant_url, settings.qdrant_api_key
            recall = _index_on_server(release, items_file, url, api_key, verified=verified)
    if recall is not None:
        registry.note(version, RECALL_TAG, f"{recall:.4f}")
    measured = "was there already" if recall is None else f"finds {recall:.3f} of the exact nearest {RECALL_DEPTH}"
    return f"{collection_name(version)} with {len(release.vocabulary):,} items {measured}"


def _index_in_folder(release: Release, items_file: Path, directory: Path) -> float | None:
    """The recall of what was built; None where there was nothing to build."""
    staging = directory / "staging"
    with only_one_at(staging):
        if edge_collection_holds(directory, release.version, release.manifest.weights):
            return None
        build_edge_collection(
            staging, release.version, release.manifest.embedding_dim, indexed_items(release, items_file)
        )
        recall = asyncio.run(_verify(release, QdrantEdgeCandidateIndex(staging)))
        publish_edge_collection(staging, directory, release.version, release.manifest.weights)
    return recall


def _index_on_server(
    release: Release, items_file: Path, url: str, api_key: str | None, *, verified: bool
) -> float | None:
    """The recall of what was built or not verified yet; None where there was nothing to do."""
    client = QdrantClient(url, api_key=api_key, timeout=BUILD_TIMEOUT_SECONDS, check_compatibility=False)
    try:
        if not server_collection_holds(client, release.version, release.manifest.weights, len(release.vocabulary)):
            batches = indexed_items(release, items_file)
            build_server_collection(client, release.version, release.manifest.embedding_dim, batches)
        elif verified:
            return None
    finally:
        client.close()
    searching = AsyncQdrantClient(url, api_key=api_key, check_compatibility=False)
    return asyncio.run(_verify(release, QdrantCandidateIndex(searching)))


def indexed_items(release: Release, items_file: Path) -> Iterator[list[IndexedItem]]:
    """Every item of the release with its candidate embedding; line n of the items file is item_index n."""
    embeddings = release.candidate_embeddings
    with items_file.open(encoding="utf-8") as lines, tqdm(total=len(embeddings), unit="item", desc="index") as progress:
        described = zip(lines, embeddings, strict=True)
        while batch := list(islice(described, BATCH)):
            yield [
                IndexedItem(_item(json.loads(line)), embedding.tolist(), release.manifest.weights)
                for line, embedding in batch
            ]
            progress.update(len(batch))


def _item(described: dict[str, object]) -> CatalogueItem:
    item_id, title = described.pop("item_id"), described.pop("title")
    return CatalogueItem(str(item_id), str(title), described)


async def _verify(release: Release, candidate_index: QdrantCandidateIndex | QdrantEdgeCandidateIndex) -> float:
    """Recall against exact search, for queries of one recent item each. Closes the index. Raises JobError."""
    try:
        recall = await recall_against_exact(release, candidate_index)
    finally:
        await candidate_index.close()
    if recall < LEAST_RECALL:
        raise JobError(
            f"{collection_name(release.version)} finds {recall:.3f} of the exact nearest {RECALL_DEPTH}, "
            f"less than {LEAST_RECALL}"
        )
    return recall


async def recall_against_exact(release: Release, candidate_index: CandidateIndex) -> float:
    item_ids = release.vocabulary.item_ids
    sample = np.random.default_rng(release.version).permutation(len(item_ids))[:SAMPLED_QUERIES]
    depth = min(RECALL_DEPTH, len(item_ids))
    found = []
    for row in tqdm(sample, unit="query", desc="verify"):
        query = release.encode([item_ids[row]])
        assert query is not None
        candidates = await candidate_index.search(release.version, query.tolist(), depth)
        exact = _exact(release, query, depth)
        found.append(len(exact & {candidate.item.item_id for candidate in candidates}) / depth)
    return float(np.mean(found))


def _exact(release: Release, query: NDArray[np.float32], depth: int) -> set[str]:
    nearest = np.argsort(-(release.candidate_embeddings @ query), kind="stable")[:depth]
    return {release.vocabulary.item_ids[row] for row in nearest}


if __name__ == "__main__":
    run_job("index", index)
