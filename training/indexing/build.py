"""Build, tune and verify the collection of a version, and record its search settings in the registry."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from recsys.adapters.open_index import open_index
from recsys.contracts.retrieval import CatalogueItem, IndexedItem
from recsys.errors import JobError
from recsys.model.histories import load_histories
from recsys.model.registry import SEARCH_TAG, ModelRegistry
from recsys.model.release import Release
from recsys.ports import VectorIndex
from training.atomic import exclusive_lock
from training.indexing.recall_target import RecallTarget
from training.indexing.tuning import PROGRESS_SECONDS, Tuned, build_and_tune, verification_queries
from training.model_directory import latest_to_serve
from training.release_manifest import registered_version
from training.settings import IndexSettings, JobSettings

BATCH = 500


def newest_version(registry: ModelRegistry, settings: JobSettings) -> int:
    """The version of the latest model. Raises JobError if it is not registered."""
    directory = latest_to_serve(settings)
    version = registered_version(registry, directory)
    if version is None:
        raise JobError(f"{directory.name} is not registered; run `make register` first")
    return version


def index_version(registry: ModelRegistry, version: int, settings: JobSettings) -> str:
    """Build and verify a version's collection, unless that is done; returns one line about it."""
    with tempfile.TemporaryDirectory() as scratch:
        registry.fetch(version, Path(scratch))
        return index_release(registry, Release.load(version, Path(scratch)), Path(scratch), settings)


def index_release(
    registry: ModelRegistry,
    release: Release,
    directory: Path,
    settings: JobSettings,
    index_settings: IndexSettings | None = None,
) -> str:
    """The same for a release that was loaded from its files in `directory`.

    Without `index_settings`, they are read from the environment.
    """
    with exclusive_lock(settings.models_dir / "index"):
        described = asyncio.run(_index(registry, release, directory, index_settings or IndexSettings()))
    return f"items_v{release.version} with {len(release.vocabulary):,} items {described}"


async def _index(registry: ModelRegistry, release: Release, directory: Path, settings: IndexSettings) -> str:
    index = open_index(settings.qdrant_url, settings.qdrant_api_key, settings.qdrant_edge_dir)
    try:
        weights_hash, num_items = release.manifest.weights_hash, len(release.vocabulary)
        verified = json.loads(registry.tags_of(release.version).get(SEARCH_TAG, "{}"))
        is_known = verified.get("engine") == settings.engine and not settings.rebuild
        if is_known and await index.holds(release.version, weights_hash, num_items):
            return "already exists"
        return await _build_and_publish(registry, index, release, directory, settings)
    finally:
        await index.close()


async def _build_and_publish(
    registry: ModelRegistry, index: VectorIndex, release: Release, directory: Path, settings: IndexSettings
) -> str:
    queries = verification_queries(release, load_histories(directory), settings.num_candidates)
    batches = partial(indexed_items, release)
    target = settings.recall_target(release.num_searchable)
    tuned = await build_and_tune(index.staging(), release, batches, queries, settings.num_candidates, target)
    registry.set_tag(release.version, SEARCH_TAG, json.dumps(_record(tuned, release, settings)))
    await index.publish(release.version)
    return _outcome(tuned, release, settings, target)


def indexed_items(release: Release) -> Iterator[list[IndexedItem]]:
    """The items of the release in batches. Items that are not searchable have no embedding."""
    embeddings, searchable = release.candidate_embeddings, release.searchable
    with (
        release.items_file.open(encoding="utf-8") as lines,
        tqdm(total=len(embeddings), unit="item", desc="upload", mininterval=PROGRESS_SECONDS) as bar,
    ):
        described = zip(lines, embeddings, searchable, strict=True)
        while batch := list(islice(described, BATCH)):
            yield [
                IndexedItem(_item(json.loads(line)), embedding.tolist() if found else None)
                for line, embedding, found in batch
            ]
            bar.update(len(batch))


def _item(described: dict[str, object]) -> CatalogueItem:
    item_id, title = described.pop("item_id"), described.pop("title")
    return CatalogueItem(str(item_id), str(title), described)


def _record(tuned: Tuned, release: Release, settings: IndexSettings) -> dict[str, object]:
    """The registry tag: the search settings, for the services, and the measurements, for people."""
    chosen, graph = tuned.chosen, tuned.chosen.graph
    return {
        **chosen.search.model_copy(update={"num_vectors": release.num_searchable}).model_dump(),
        "engine": settings.engine,
        "graph": None if graph is None else {"m": graph.m, "ef_construct": graph.ef_construct},
        "num_candidates": settings.num_candidates,
        "recall": round(chosen.recall, 4),
        "recall_worst_percent": round(chosen.recall_worst, 4),
        "search_ms": round(chosen.search_ms, 3),
        "exact_ms": round(tuned.exact.search_ms, 3),
    }


def _outcome(tuned: Tuned, release: Release, settings: IndexSettings, target: RecallTarget) -> str:
    chosen, without = tuned.chosen, len(release.vocabulary) - release.num_searchable
    found = f"finds {chosen.recall:.4f} of the exact nearest {settings.num_candidates}"
    if not chosen.search.exact:
        how = f"by {chosen.how} in {chosen.search_ms:.2f} ms (exact: {tuned.exact.search_ms:.2f} ms)"
    elif len(tuned.tried) == 1:
        how = f"by exact search in {chosen.search_ms:.2f} ms, because so few vectors need no graph"
    else:
        how = f"by exact search in {chosen.search_ms:.2f} ms, because no graph reaches {target.mean} faster"
    left_out = f"; {without:,} have neither events nor content and can be found by id and title only" if without else ""
    return f"{found} {how}{left_out}"
