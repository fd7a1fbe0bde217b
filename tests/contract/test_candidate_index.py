"""What every candidate index and catalogue does alike: in memory, on Qdrant Edge, and on a Qdrant server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from recsys.adapters.in_memory import InMemoryCandidateIndex
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
from recsys.adapters.qdrant_points import IndexedItem, collection_name, payload_of, point_id
from recsys.contracts.base import MAX_ID_LENGTH
from recsys.contracts.retrieval import CatalogueItem
from recsys.errors import ReleaseNotLoaded, UnknownItem

RELEASE = 3
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


@asynccontextmanager
async def in_memory(_: pytest.FixtureRequest) -> AsyncIterator[InMemoryCandidateIndex]:
    yield InMemoryCandidateIndex({RELEASE: ITEMS})


@asynccontextmanager
async def on_edge(request: pytest.FixtureRequest) -> AsyncIterator[QdrantEdgeCandidateIndex]:
    index = QdrantEdgeCandidateIndex(request.getfixturevalue("edge_directory"))
    try:
        yield index
    finally:
        await index.close()


@asynccontextmanager
async def on_local_qdrant(_: pytest.FixtureRequest) -> AsyncIterator[QdrantCandidateIndex]:
    """The client's own engine, which is no server: it cannot say that a collection is missing as a server would."""
    writer, reader = QdrantClient(":memory:"), AsyncQdrantClient(":memory:")
    build_server_collection(writer, RELEASE, DIM, BATCHES)
    reader._client.collections = writer._client.collections
    index = QdrantCandidateIndex(reader)
    yield index
    await index.close()


@asynccontextmanager
async def on_a_server(request: pytest.FixtureRequest) -> AsyncIterator[QdrantCandidateIndex]:
    index = QdrantCandidateIndex(AsyncQdrantClient(request.getfixturevalue("qdrant_url"), check_compatibility=False))
    yield index
    await index.close()


@pytest.fixture(scope="module")
def edge_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built, directory = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("edge")
    build_edge_collection(built, RELEASE, DIM, BATCHES)
    publish_edge_collection(built, directory, RELEASE, "hash")
    return directory


@pytest.fixture(scope="module")
def qdrant_url(qdrant_server: str) -> str:
    """A server over a socket, with the release's collection in it."""
    client = QdrantClient(qdrant_server, check_compatibility=False)
    build_server_collection(client, RELEASE, DIM, BATCHES)
    client.close()
    return qdrant_server


@pytest.fixture(params=[in_memory, on_edge, on_local_qdrant, on_a_server], ids=lambda adapter: adapter.__name__)
async def index(request: pytest.FixtureRequest) -> AsyncIterator[QdrantCandidateIndex]:
    async with request.param(request) as opened:
        yield opened


def brute_force(query: np.ndarray, exclude: set[str] = frozenset()) -> list[str]:
    """Every allowed item id by falling dot product."""
    return [IDS[row] for row in np.argsort(-(VECTORS @ query)) if IDS[row] not in exclude]


def found(candidates) -> list[str]:
    return [candidate.item.item_id for candidate in candidates]


def some_query(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
async def test_a_search_finds_what_brute_force_finds_best_first(index, seed):
    query = some_query(seed)
    candidates = await index.search(RELEASE, query.tolist(), 20)
    assert found(candidates) == brute_force(query)[:20]
    similarities = [candidate.similarity for candidate in candidates]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities == pytest.approx(np.sort(VECTORS @ query)[::-1][:20].tolist(), abs=1e-4)


async def test_long_vectors_win_as_similarity_is_the_plain_dot_product(index):
    query = VECTORS[17] * 100
    assert found(await index.search(RELEASE, query.tolist(), 10)) == brute_force(query)[:10]


async def test_excluded_items_are_not_found_and_others_take_their_places(index):
    query = some_query()
    exclude = set(brute_force(query)[:30:2])
    assert found(await index.search(RELEASE, query.tolist(), 20, exclude)) == brute_force(query, exclude)[:20]


async def test_excluding_items_that_are_not_there_changes_nothing(index):
    query = some_query()
    exclude = {"never heard of", "", "?"}
    assert found(await index.search(RELEASE, query.tolist(), 5, exclude)) == brute_force(query)[:5]


async def test_a_thousand_exclusions_are_taken(index):
    query = some_query()
    exclude = {*(f"nobody-{number}" for number in range(10_000)), *IDS[10:]}
    assert found(await index.search(RELEASE, query.tolist(), 20, exclude)) == brute_force(query, exclude)


async def test_where_everything_is_excluded_nothing_is_found(index):
    assert await index.search(RELEASE, some_query().tolist(), 5, IDS) == []


async def test_asking_for_more_than_there_is_gives_all(index):
    query = some_query()
    assert found(await index.search(RELEASE, query.tolist(), 1000)) == brute_force(query)


async def test_candidates_come_described(index):
    first = (await index.search(RELEASE, VECTORS[0].tolist(), COUNT))[0].item
    assert first == ITEMS[IDS.index(first.item_id)].item


@pytest.mark.parametrize("item_id", ["i5", *ODD_ITEMS])
async def test_similar_items_are_the_nearest_by_angle_without_the_item_itself(index, item_id):
    row = IDS.index(item_id)
    without_bias = VECTORS[:, :-1] / np.linalg.norm(VECTORS[:, :-1], axis=1, keepdims=True)
    cosines = without_bias @ without_bias[row]
    expected = [IDS[other] for other in np.argsort(-cosines) if other != row][:15]
    candidates = await index.similar(RELEASE, item_id, 15)
    assert found(candidates) == expected
    assert [each.similarity for each in candidates] == pytest.approx(np.sort(cosines)[::-1][1:16].tolist(), abs=1e-4)


async def test_no_more_similar_items_come_than_were_asked_for_or_are_there(index):
    assert len(await index.similar(RELEASE, "i5", 3)) == 3
    assert len(await index.similar(RELEASE, "i5", COUNT)) == COUNT - 1


async def test_of_an_unknown_item_nothing_is_similar(index):
    with pytest.raises(UnknownItem, match="never heard of"):
        await index.similar(RELEASE, "never heard of", 5)


async def test_items_are_described_as_they_were_written(index):
    assert await index.items(RELEASE, IDS) == {each.item.item_id: each.item for each in ITEMS}


async def test_items_that_are_not_there_are_left_out(index):
    assert list(await index.items(RELEASE, ["i1", "never heard of", "i2"])) == ["i1", "i2"]
    assert await index.items(RELEASE, ["never heard of"]) == {}
    assert await index.items(RELEASE, []) == {}


async def test_an_item_that_is_asked_for_twice_is_one_item(index):
    assert list(await index.items(RELEASE, ["i1", "i1"])) == ["i1"]


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
async def test_items_are_found_by_the_words_of_their_titles_in_any_order_and_case(index, query, expected):
    assert {item.item_id for item in await index.find_by_title(RELEASE, query, 50)} == expected


async def test_no_more_titles_come_than_were_asked_for(index):
    assert len(await index.find_by_title(RELEASE, "thing", 7)) == 7


async def test_a_release_without_a_collection_is_not_loaded(request, index):
    if "on_local_qdrant" in request.node.name:
        pytest.skip("the client's own engine raises ValueError where a server answers 404")
    missing = RELEASE + 1
    for asked in (
        index.search(missing, some_query().tolist(), 5),
        index.similar(missing, "i1", 5),
        index.items(missing, ["i1"]),
        index.find_by_title(missing, "lord", 5),
    ):
        with pytest.raises(ReleaseNotLoaded):
            await asked


@pytest.mark.parametrize("adapter", [on_edge, on_local_qdrant, on_a_server], ids=lambda adapter: adapter.__name__)
async def test_opening_tells_whether_the_collection_is_there(request, adapter):
    async with adapter(request) as index:
        await index.open(RELEASE)
        with pytest.raises(ReleaseNotLoaded):
            await index.open(RELEASE + 1)


def test_a_server_collection_is_whole_when_every_item_of_these_weights_is_in_it(qdrant_url):
    client = QdrantClient(qdrant_url, check_compatibility=False)
    assert server_collection_holds(client, RELEASE, "", COUNT)
    assert not server_collection_holds(client, RELEASE, "others", COUNT)
    assert not server_collection_holds(client, RELEASE, "", COUNT + 1)
    assert not server_collection_holds(client, RELEASE + 1, "", COUNT)
    client.close()


def test_an_edge_collection_knows_whose_weights_it_holds(edge_directory):
    assert edge_collection_holds(edge_directory, RELEASE, "hash")
    assert not edge_collection_holds(edge_directory, RELEASE, "another")
    assert not edge_collection_holds(edge_directory, RELEASE + 1, "hash")


async def test_an_interrupted_edge_build_is_done_over_and_replaces_what_was_served(tmp_path):
    half_built = tmp_path / "staging" / collection_name(RELEASE)
    half_built.mkdir(parents=True)
    (half_built / "rubbish").write_text("left by a run that was killed")
    for weights, items in (("first", ITEMS[:5]), ("second", ITEMS)):
        build_edge_collection(tmp_path / "staging", RELEASE, DIM, [items])
        publish_edge_collection(tmp_path / "staging", tmp_path, RELEASE, weights)
    assert edge_collection_holds(tmp_path, RELEASE, "second")
    index = QdrantEdgeCandidateIndex(tmp_path)
    assert len(await index.search(RELEASE, some_query().tolist(), 1000)) == COUNT
    await index.close()


async def test_only_the_serving_collection_and_the_one_before_stay_open(tmp_path):
    for release in (1, 2, 3):
        build_edge_collection(tmp_path, release, DIM, [ITEMS[:5]])
    index = QdrantEdgeCandidateIndex(tmp_path)
    for release in (1, 2, 3, 1, 3):
        assert len(await index.search(release, some_query().tolist(), 10)) == 5
    await index.close()
    await index.close()


def test_point_ids_are_the_same_on_every_machine_and_fit_what_qdrant_takes():
    assert point_id("i1") == point_id("i1") != point_id("i2")
    assert all(0 <= point_id(item_id) < 2**63 for item_id in IDS)
    assert len({point_id(str(number)) for number in range(100_000)}) == 100_000


def test_a_payload_holds_all_of_an_item():
    expected = {"item_id": "i0", "title": TITLES["i0"], "metadata": METADATA, "weights": ""}
    assert payload_of(ITEMS[0]) == expected


async def test_edge_finds_nearly_all_of_the_exact_nearest_among_thousands(tmp_path):
    count, dim, depth = 5_000, 32, 100
    vectors = np.random.default_rng(5).normal(size=(count, dim)).astype(np.float32)
    items = [IndexedItem(CatalogueItem(str(row), "", {}), vector) for row, vector in enumerate(vectors.tolist())]
    build_edge_collection(tmp_path, RELEASE, dim, [items[at : at + 500] for at in range(0, count, 500)])
    index = QdrantEdgeCandidateIndex(tmp_path)
    recalls = []
    for query in np.random.default_rng(6).normal(size=(50, dim)).astype(np.float32):
        exact = {str(row) for row in np.argsort(-(vectors @ query))[:depth]}
        recalls.append(len(exact & set(found(await index.search(RELEASE, query.tolist(), depth)))) / depth)
    await index.close()
    assert np.mean(recalls) >= 0.95
