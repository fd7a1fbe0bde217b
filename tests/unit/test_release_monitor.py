"""Which releases the orchestrator takes over, and what it says of those that it does not."""

import asyncio
import json
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from orchestrator.release_monitor import OK, ReleaseMonitor
from recsys.adapters.in_memory import InMemoryVectorIndex
from recsys.adapters.release_catalogue import ReleaseCatalogue
from recsys.contracts.retrieval import CatalogueItem, GraphSettings, IndexedItem, SearchSettings, ServingReleases
from recsys.errors import UpstreamUnavailable

EXACT = SearchSettings(hnsw_ef=None)
GRAPH = SearchSettings(hnsw_ef=128)
COUNT = 300


class Source:
    """A ranker that says what it is told to."""

    def __init__(self) -> None:
        self.serving = ServingReleases(champion=1, loaded=[1], vocabulary_hash="v", search={1: EXACT})
        self.away = False

    async def releases(self) -> ServingReleases:
        if self.away:
            raise UpstreamUnavailable("ranker cannot be reached")
        return self.serving

    async def item_lines(self, release_version: int) -> bytes:
        return b"".join(
            json.dumps({"item_id": f"i{number}", "title": f"Thing {number} of {release_version}"}).encode() + b"\n"
            for number in range(COUNT)
        )


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def index() -> InMemoryVectorIndex:
    return InMemoryVectorIndex()


@pytest.fixture
def catalogue(source: Source) -> ReleaseCatalogue:
    return ReleaseCatalogue(source)


@pytest.fixture
def release_monitor(source: Source, index: InMemoryVectorIndex, catalogue: ReleaseCatalogue) -> ReleaseMonitor:
    return ReleaseMonitor(source, index, catalogue, refresh_seconds=60)


async def build(index: InMemoryVectorIndex, release_version: int, graph: GraphSettings | None = None) -> None:
    items = [IndexedItem(CatalogueItem(f"i{number}", "", {}), [1.0, 0.0]) for number in range(COUNT)]
    await index.build(
        release_version,
        embedding_dim=2,
        num_items=COUNT,
        num_vectors=COUNT,
        weights_hash="w",
        graph=graph,
        batches=[items],
    )


async def look(release_monitor: ReleaseMonitor) -> None:
    """One round."""

    async def remember_popular() -> None:
        """Nothing is popular."""

    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await release_monitor.run(remember_popular)


async def test_a_release_with_a_collection_and_settings_is_taken_over_and_described(release_monitor, index, catalogue):
    await build(index, 1)
    await look(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies == {"ranker": OK, "index": OK, "feature_service": OK}
    assert (await catalogue.items(1, ["i7"]))["i7"].title == "Thing 7 of 1"


async def test_a_release_that_was_never_verified_is_refused(release_monitor, index, source):
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {}})
    await look(release_monitor)
    assert release_monitor.champion is None
    assert release_monitor.dependencies["index"].startswith("release 1 was never verified; run `make index`")


async def test_a_release_without_a_collection_leaves_the_one_before(release_monitor, index, source):
    await build(index, 1)
    await look(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await look(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v2" in release_monitor.dependencies["index"]
    await build(index, 2)
    await look(release_monitor)
    assert (release_monitor.champion, release_monitor.dependencies["index"]) == (2, OK)


async def test_a_challenger_that_cannot_be_opened_is_named_and_left_out(release_monitor, index, source):
    await build(index, 1)
    source.serving = ServingReleases(
        champion=1, challenger=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT}
    )
    await look(release_monitor)
    assert (release_monitor.champion, release_monitor.challenger) == (1, None)
    assert "items_v2" in release_monitor.dependencies["index"]
    await build(index, 2)
    await look(release_monitor)
    assert (release_monitor.challenger, release_monitor.dependencies["index"]) == (2, OK)


async def test_new_settings_of_the_same_release_are_taken_over(release_monitor, index, source):
    await build(index, 1, GraphSettings(16, 128))
    await look(release_monitor)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await look(release_monitor)
    assert release_monitor.releases is not None
    assert release_monitor.releases.search == {1: GRAPH}


async def test_a_collection_without_the_graph_that_it_should_have_serves_and_is_named(release_monitor, index, source):
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await look(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies["index"] == "collection items_v1 is not indexed: 0 of 300 vectors"
    await build(index, 1, GraphSettings(16, 128))
    await look(release_monitor)
    assert release_monitor.dependencies["index"] == OK


async def test_what_was_found_last_holds_while_the_ranker_is_away(release_monitor, index, source):
    await build(index, 1)
    await look(release_monitor)
    source.away = True
    await look(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies["ranker"] == "ranker cannot be reached"


async def test_what_was_found_last_holds_while_the_index_is_away(release_monitor, index):
    await build(index, 1)
    await look(release_monitor)
    await index.drop(1)
    await look(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v1" in release_monitor.dependencies["index"]


def shown_as_indexed(version: int) -> float | None:
    return REGISTRY.get_sample_value("tandem_collection_indexed", {"release": str(version)})


async def test_whether_a_collection_is_indexed_is_a_metric(release_monitor, index, source):
    await build(index, 1)
    await look(release_monitor)
    assert shown_as_indexed(1) == 1, "exact search needs no graph"
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await look(release_monitor)
    assert shown_as_indexed(1) == 0
    await build(index, 1, GraphSettings(16, 128))
    await look(release_monitor)
    assert shown_as_indexed(1) == 1


async def test_a_release_that_serves_no_more_has_no_metric(release_monitor, index, source):
    await build(index, 1)
    await look(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await look(release_monitor)
    assert shown_as_indexed(1) == 1, "it serves until the next one can"
    await build(index, 2)
    await look(release_monitor)
    assert (shown_as_indexed(1), shown_as_indexed(2)) == (None, 1)
