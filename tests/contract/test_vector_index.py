"""The contract of every vector index: in memory, on Qdrant Edge, and on a Qdrant server.

The tests start a stub server. With QDRANT_TEST_URL they use that server instead, with their own collections:
QDRANT_TEST_URL=http://127.0.0.1:6333 pytest tests/contract/test_vector_index.py
"""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.adapters import open_index as open_index_module
from recsys.adapters import qdrant_server_collections
from recsys.adapters.graph_layout import GraphLayout
from recsys.adapters.in_memory import InMemoryVectorIndex
from recsys.adapters.open_collections import KEPT_OPEN
from recsys.adapters.open_index import open_index
from recsys.adapters.qdrant_edge_index import STAGING, QdrantEdgeIndex
from recsys.adapters.qdrant_points import collection_name, payload_of
from recsys.adapters.qdrant_server_index import QdrantServerIndex
from recsys.contracts.base import MAX_ID_LENGTH
from recsys.contracts.retrieval import CatalogueItem, GraphSettings, IndexedItem, SearchSettings
from recsys.errors import JobError, ReleaseNotLoaded, UnknownItem
from recsys.ports import VectorIndex

FIRST = 2**31 - 1000
"""Higher than the versions on any real server."""
RELEASE, SCRATCH, LARGE, MISSING = range(FIRST, FIRST + 4)
WEIGHTS = "hash"
EXACT = SearchSettings(hnsw_ef=None)
GRAPH = GraphSettings(m=16, ef_construct=128)
DIM = 12
COUNT = 150
random = np.random.default_rng(0)
VECTORS = random.normal(size=(COUNT, DIM)).astype(np.float32)
ODD_ITEMS = ["a/b", "..", " ", 'say "it\'s"', "line\nbreak", "übergröße 🚀", "x" * MAX_ID_LENGTH, "a\0b", "?#%2F"]
IDS = [*(f"i{number}" for number in range(COUNT - len(ODD_ITEMS))), *ODD_ITEMS]
METADATA = {
    "categories": ["Books", "Fantasy"],
    "year": None,
    "price": 12.5,
    "nested": {"list": [[1, [2]], []], "true": True, "none": [None]},
    "unicode": "Größe 🚀 \" ' \\ \n",
    "": "an empty name",
    "big": 2**53,
}
TITLES = {
    "i0": "The Lord of the Rings",
    "i1": "Lord Jim",
    "i2": "The Rings of Saturn",
    "i3": "Überraschung im Größenwahn",
    "i4": "",
}
ITEMS = [
    IndexedItem(CatalogueItem(item_id, TITLES.get(item_id, f"Thing {number}"), METADATA), VECTORS[number].tolist())
    for number, item_id in enumerate(IDS)
]
BATCHES = [ITEMS[:100], ITEMS[100:]]
LARGE_COUNT, LARGE_DIM = 2_000, 32
LARGE_VECTORS = np.random.default_rng(5).normal(size=(LARGE_COUNT, LARGE_DIM)).astype(np.float32)
LARGE_IDS = [f"large-{row}" for row in range(LARGE_COUNT)]


@asynccontextmanager
async def in_memory(_: pytest.FixtureRequest) -> AsyncIterator[InMemoryVectorIndex]:
    index = InMemoryVectorIndex()
    await build_all(index)
    yield index


@asynccontextmanager
async def on_edge(request: pytest.FixtureRequest) -> AsyncIterator[QdrantEdgeIndex]:
    index = QdrantEdgeIndex(request.getfixturevalue("edge_directory"))
    yield index
    await index.close()


@asynccontextmanager
async def on_a_server(request: pytest.FixtureRequest) -> AsyncIterator[QdrantServerIndex]:
    index = QdrantServerIndex(request.getfixturevalue("qdrant_url"))
    yield index
    await index.close()


ADAPTERS = [in_memory, on_edge, on_a_server]


async def build(
    index: VectorIndex, release_version: int, items: Any = ITEMS, *, graph: Any = None, weights_hash: str = WEIGHTS
) -> None:
    """Build and publish, as the job does."""
    await index.staging().build(
        release_version,
        embedding_dim=len(items[0].embedding),
        num_items=len(items),
        num_vectors=len(items),
        weights_hash=weights_hash,
        graph=graph,
        batches=[items[at : at + 500] for at in range(0, len(items), 500)],
    )
    await index.publish(release_version)


async def build_all(index: VectorIndex) -> None:
    large = [
        IndexedItem(CatalogueItem(item_id, "", {}), vector)
        for item_id, vector in zip(LARGE_IDS, LARGE_VECTORS.tolist(), strict=True)
    ]
    await build(index, RELEASE)
    await build(index, LARGE, large, graph=GraphSettings(m=16, ef_construct=128))


async def build_once(index: VectorIndex) -> None:
    try:
        await build_all(index)
    finally:
        await index.close()


def run_in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run in a new event loop in a thread, because the loop of the current test is running."""
    with ThreadPoolExecutor() as thread:
        thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="module")
def edge_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("edge")
    run_in_thread(build_once(QdrantEdgeIndex(directory)))
    return directory


@pytest.fixture(scope="module")
def qdrant_url(request: pytest.FixtureRequest) -> Iterator[str]:
    url = os.environ.get("QDRANT_TEST_URL") or request.getfixturevalue("qdrant_server")

    async def build_there() -> None:
        await build_once(QdrantServerIndex(url))

    async def drop_there() -> None:
        index = QdrantServerIndex(url)
        for release_version in (RELEASE, SCRATCH, LARGE):
            await index.drop(release_version)
        await index.close()

    run_in_thread(build_there())
    yield url
    run_in_thread(drop_there())


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
async def index(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    async with request.param(request) as opened:
        await opened.open(RELEASE, IDS, EXACT)
        yield opened


@pytest.fixture(params=ADAPTERS[1:], ids=lambda adapter: adapter.__name__)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    """An index without open collections."""
    async with request.param(request) as opened:
        yield opened


def brute_force(query: np.ndarray, exclude: set[str] = frozenset()) -> list[str]:
    """Every allowed item id by descending dot product."""
    return [IDS[row] for row in np.argsort(-(VECTORS @ query)) if IDS[row] not in exclude]


def found(candidates: Any) -> list[str]:
    return [candidate.item_id for candidate in candidates]


def some_query(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
async def test_a_search_finds_what_brute_force_finds_best_first(index: VectorIndex, seed: int) -> None:
    query = some_query(seed)
    candidates = await index.search(RELEASE, query.tolist(), 20)
    assert found(candidates) == brute_force(query)[:20]
    similarities = [candidate.similarity for candidate in candidates]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities == pytest.approx(np.sort(VECTORS @ query)[::-1][:20].tolist(), abs=1e-4)


async def test_similarity_is_the_dot_product_without_normalisation(index: VectorIndex) -> None:
    query = VECTORS[17] * 100
    assert found(await index.search(RELEASE, query.tolist(), 10)) == brute_force(query)[:10]


async def test_excluded_items_are_replaced_by_others(index: VectorIndex) -> None:
    query = some_query()
    exclude = set(brute_force(query)[:30:2])
    assert found(await index.search(RELEASE, query.tolist(), 20, exclude)) == brute_force(query, exclude)[:20]


async def test_excluding_unknown_items_changes_nothing(index: VectorIndex) -> None:
    query = some_query()
    exclude = {"unknown", "", "?"}
    assert found(await index.search(RELEASE, query.tolist(), 5, exclude)) == brute_force(query)[:5]


async def test_thousands_of_items_may_be_excluded(index: VectorIndex) -> None:
    query = some_query()
    exclude = {*(f"unknown-{number}" for number in range(10_000)), *IDS[10:]}
    assert found(await index.search(RELEASE, query.tolist(), 20, exclude)) == brute_force(query, exclude)


async def test_the_ids_that_callers_exclude_are_not_kept_in_memory(index: VectorIndex) -> None:
    query = some_query().tolist()
    await index.search(RELEASE, query, 5, IDS)  # allocates what every search needs
    tracemalloc.start()
    for batch in range(10):
        await index.search(RELEASE, query, 5, [f"{batch}-{number:0120d}" for number in range(500)])
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 300_000  # the ids alone take 850,000


async def test_nothing_is_found_if_everything_is_excluded(index: VectorIndex) -> None:
    assert await index.search(RELEASE, some_query().tolist(), 5, IDS) == []


async def test_a_limit_above_the_number_of_items_returns_all(index: VectorIndex) -> None:
    query = some_query()
    assert found(await index.search(RELEASE, query.tolist(), 1000)) == brute_force(query)


async def test_candidates_name_the_weights_of_their_collection(index: VectorIndex) -> None:
    candidates = await index.search(RELEASE, some_query().tolist(), 3) + await index.similar(RELEASE, "i5", 3)
    assert {candidate.weights_hash for candidate in candidates} == {WEIGHTS}


@pytest.mark.parametrize("item_id", ["i5", *ODD_ITEMS])
async def test_similar_items_are_the_nearest_by_angle_without_the_item_itself(index: VectorIndex, item_id: str) -> None:
    row = IDS.index(item_id)
    without_bias = VECTORS[:, :-1] / np.linalg.norm(VECTORS[:, :-1], axis=1, keepdims=True)
    cosines = without_bias @ without_bias[row]
    expected = [IDS[other] for other in np.argsort(-cosines) if other != row][:15]
    candidates = await index.similar(RELEASE, item_id, 15)
    assert found(candidates) == expected
    assert [each.similarity for each in candidates] == pytest.approx(np.sort(cosines)[::-1][1:16].tolist(), abs=1e-4)


async def test_the_number_of_similar_items_is_limited(index: VectorIndex) -> None:
    assert len(await index.similar(RELEASE, "i5", 3)) == 3
    assert len(await index.similar(RELEASE, "i5", COUNT)) == COUNT - 1


async def test_similar_items_of_an_unknown_item_are_an_error(index: VectorIndex) -> None:
    with pytest.raises(UnknownItem, match="unknown"):
        await index.similar(RELEASE, "unknown", 5)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("lord", {"i0", "i1"}),
        ("LORD", {"i0", "i1"}),
        ("rings lord", {"i0"}),
        ("  The   rings ", {"i0", "i2"}),
        ("lord saturn", set()),
        ("größenwahn überraschung", {"i3"}),
        ("GRÖSSE", set()),
        ("Thing 77", {"i77"}),
        ("no such word", set()),
    ],
)
async def test_items_are_found_by_the_words_of_their_titles_in_any_order_and_case(
    index: VectorIndex, query: str, expected: Any
) -> None:
    assert set(await index.find_by_title(RELEASE, query, 50)) == expected


async def test_the_number_of_titles_is_limited(index: VectorIndex) -> None:
    assert len(await index.find_by_title(RELEASE, "thing", 7)) == 7


async def test_a_release_without_a_collection_is_not_loaded(index: VectorIndex) -> None:
    for asked in (
        index.open(MISSING, IDS, EXACT),
        index.search(MISSING, some_query().tolist(), 5),
        index.similar(MISSING, "i1", 5),
        index.find_by_title(MISSING, "lord", 5),
        index.status(MISSING),
    ):
        with pytest.raises(ReleaseNotLoaded):
            await asked


async def test_a_collection_that_is_not_open_is_not_searched(engine: VectorIndex) -> None:
    for asked in (
        engine.search(RELEASE, some_query().tolist(), 5),
        engine.similar(RELEASE, "i1", 5),
        engine.find_by_title(RELEASE, "lord", 5),
        engine.status(RELEASE),
    ):
        with pytest.raises(ReleaseNotLoaded, match="not open"):
            await asked


async def test_only_the_most_recently_opened_collections_stay_open(engine: VectorIndex) -> None:
    releases = range(FIRST + 10, FIRST + 10 + KEPT_OPEN + 1)
    for release_version in releases:
        await build(engine, release_version, ITEMS[:5])
        await engine.open(release_version, IDS[:5], EXACT)
    for release_version in releases[1:]:
        assert len(await engine.search(release_version, some_query().tolist(), 10)) == 5
    with pytest.raises(ReleaseNotLoaded):
        await engine.search(releases[0], some_query().tolist(), 10)
    for release_version in releases:
        await engine.drop(release_version)


# --- building ---------------------------------------------------------------------------------------------------------


async def test_a_collection_is_held_from_publishing_to_dropping(index: VectorIndex) -> None:
    await build(index, SCRATCH)
    assert await index.holds(SCRATCH, WEIGHTS, COUNT)
    assert not await index.holds(SCRATCH, "others", COUNT)
    assert {RELEASE, SCRATCH} <= set(await index.collections())
    await index.open(SCRATCH, IDS, EXACT)
    await index.drop(SCRATCH)
    assert not await index.holds(SCRATCH, WEIGHTS, COUNT)
    assert SCRATCH not in await index.collections()
    for asked in (index.search(SCRATCH, some_query().tolist(), 5), index.open(SCRATCH, IDS, EXACT)):
        with pytest.raises(ReleaseNotLoaded):
            await asked
    await index.drop(SCRATCH)


async def test_a_staged_collection_can_be_searched_before_it_is_published(index: VectorIndex) -> None:
    staging = index.staging()
    batches = [ITEMS[:5]]
    await staging.build(
        SCRATCH, embedding_dim=DIM, num_items=5, num_vectors=5, weights_hash=WEIGHTS, graph=None, batches=batches
    )
    await staging.open(SCRATCH, IDS[:5], EXACT)
    assert len(await staging.search(SCRATCH, some_query().tolist(), 10)) == 5
    await index.publish(SCRATCH)
    await index.open(SCRATCH, IDS[:5], EXACT)
    assert len(await index.search(SCRATCH, some_query().tolist(), 10)) == 5
    await index.drop(SCRATCH)


async def test_rebuilding_replaces_a_collection(index: VectorIndex) -> None:
    await build(index, SCRATCH, ITEMS[:5], weights_hash="first")
    await index.open(SCRATCH, IDS[:5], EXACT)
    await build(index, SCRATCH, ITEMS, weights_hash="second")
    assert await index.holds(SCRATCH, "second", COUNT)
    assert not await index.holds(SCRATCH, "first", 5)
    await index.open(SCRATCH, IDS, EXACT)
    candidates = await index.search(SCRATCH, some_query().tolist(), 1000)
    assert len(candidates) == COUNT
    assert candidates[0].weights_hash == "second"
    await index.drop(SCRATCH)


@pytest.mark.parametrize("adapter", [in_memory, on_a_server], ids=lambda adapter: adapter.__name__)
async def test_a_collection_with_fewer_items_is_incomplete(request: pytest.FixtureRequest, adapter: Any) -> None:
    async with adapter(request) as index:
        assert not await index.holds(RELEASE, WEIGHTS, COUNT + 1)


async def test_a_graph_is_complete_when_build_returns_and_is_optional(index: VectorIndex) -> None:
    await index.open(LARGE, LARGE_IDS, SearchSettings(hnsw_ef=400))
    indexed = await index.status(LARGE)
    assert indexed.num_points == LARGE_COUNT
    assert indexed.num_indexed >= 0.94 * LARGE_COUNT
    assert indexed.is_indexed()
    assert not indexed.indexing
    assert await index.status(RELEASE) == (COUNT, 0, False)


async def recall(
    index: VectorIndex, release_version: int, settings: SearchSettings | None, exclude: Collection[str] = frozenset()
) -> float:
    depth, recalls = 100, []
    allowed = np.array([item_id not in exclude for item_id in LARGE_IDS])
    for query in np.random.default_rng(6).normal(size=(30, LARGE_DIM)).astype(np.float32):
        scores = np.where(allowed, LARGE_VECTORS @ query, -np.inf)
        nearest = {LARGE_IDS[row] for row in np.argsort(-scores)[:depth]}
        candidates = await index.search(release_version, query.tolist(), depth, exclude, settings)
        recalls.append(len(nearest & set(found(candidates))) / depth)
    return float(np.mean(recalls))


async def test_settings_decide_how_a_graph_is_searched(index: VectorIndex) -> None:
    await index.open(LARGE, LARGE_IDS, SearchSettings(hnsw_ef=400))
    assert await recall(index, LARGE, None) >= 0.95
    assert await recall(index, LARGE, EXACT) == 1.0
    assert await recall(index, LARGE, SearchSettings(hnsw_ef=400, oversampling=2.0)) >= 0.9
    await index.open(LARGE, LARGE_IDS, EXACT)
    assert await recall(index, LARGE, None) == 1.0


async def test_a_graph_search_with_thousands_excluded_keeps_its_recall(index: VectorIndex) -> None:
    await index.open(LARGE, LARGE_IDS, SearchSettings(hnsw_ef=400))
    for excluded in (40, 1_000, 1_800):
        assert await recall(index, LARGE, None, frozenset(LARGE_IDS[:excluded])) >= 0.95


async def test_building_reports_its_progress(index: VectorIndex) -> None:
    reported: list[int] = []
    await index.staging().build(
        SCRATCH,
        embedding_dim=DIM,
        num_items=COUNT,
        num_vectors=COUNT,
        weights_hash=WEIGHTS,
        graph=GRAPH,
        batches=BATCHES,
        progress=reported.append,
    )
    assert reported[-1] > 0
    assert reported == sorted(reported)
    await index.staging().drop(SCRATCH)


async def test_a_server_that_does_not_index_in_time_fails_the_job(qdrant_url: str) -> None:
    if "QDRANT_TEST_URL" in os.environ:
        pytest.skip("a real server may be fast enough")
    index = QdrantServerIndex(qdrant_url)
    with pytest.raises(JobError, match=f"{collection_name(SCRATCH)} is not indexed after 0 s: 0 of {COUNT} vectors"):
        await index.build(
            SCRATCH,
            embedding_dim=DIM,
            num_items=COUNT,
            num_vectors=COUNT,
            weights_hash=WEIGHTS,
            graph=GRAPH,
            batches=BATCHES,
            timeout_seconds=0.0,
        )
    await index.close()


async def test_a_server_that_has_stopped_indexing_fails_the_job(
    qdrant_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_server_collections, "STALLED_SECONDS", 0.6)
    index = QdrantServerIndex(qdrant_url)
    with pytest.raises(JobError, match=f"{collection_name(RELEASE)} is not indexed after 1 s: 0 of {COUNT} vectors"):
        await index._collections._wait_until_indexed(RELEASE, COUNT, GraphLayout(DIM, COUNT), lambda _: None, 60.0)
    await index.close()


async def test_an_interrupted_edge_build_is_not_served(tmp_path: Path) -> None:
    index = QdrantEdgeIndex(tmp_path)
    half_built = tmp_path / STAGING / collection_name(RELEASE)
    half_built.mkdir(parents=True)
    (half_built / "rubbish").write_text("from a run that was killed")
    assert not await index.staging().holds(RELEASE, WEIGHTS, COUNT)
    with pytest.raises(ReleaseNotLoaded):
        await index.publish(RELEASE)
    await build(index, RELEASE)
    assert await index.holds(RELEASE, WEIGHTS, COUNT)
    assert not (tmp_path / collection_name(RELEASE) / "rubbish").exists()
    await index.close()
    await index.close()


async def test_a_replaced_edge_collection_is_reopened(tmp_path: Path) -> None:
    index, job = QdrantEdgeIndex(tmp_path), QdrantEdgeIndex(tmp_path)
    await build(job, RELEASE, ITEMS[:5], weights_hash="first")
    await index.open(RELEASE, IDS[:5], EXACT)
    await build(job, RELEASE, ITEMS, weights_hash="second")
    await index.open(RELEASE, IDS, EXACT)
    assert len(await index.search(RELEASE, some_query().tolist(), 1000)) == COUNT
    await index.close()


async def test_the_url_decides_which_index_is_opened(tmp_path: Path) -> None:
    assert isinstance(open_index(None, None, tmp_path), QdrantEdgeIndex)
    on_server = open_index("http://localhost", None, tmp_path)
    assert isinstance(on_server, QdrantServerIndex)
    await on_server.close()
    with pytest.raises(ValueError, match="set QDRANT_URL"):
        open_index(None, None, None)
    with pytest.raises(ValueError, match="must start with one of http://, https://"):
        open_index("localhost:6333", None, tmp_path)


async def test_another_index_is_chosen_by_its_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = {**open_index_module.ADAPTERS, "scratch": lambda *_: InMemoryVectorIndex()}
    monkeypatch.setattr(open_index_module, "ADAPTERS", adapters)
    assert isinstance(open_index("scratch://", None, tmp_path), InMemoryVectorIndex)


def test_a_payload_contains_the_whole_item() -> None:
    expected = {"item_id": "i0", "title": TITLES["i0"], "metadata": METADATA, "weights": WEIGHTS}
    assert payload_of(ITEMS[0].item, WEIGHTS) == expected
