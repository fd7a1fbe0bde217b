"""Which releases the orchestrator serves, and the problems it reports for the others."""

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
    """A ranker with configurable releases."""

    def __init__(self) -> None:
        self.serving = ServingReleases(champion=1, loaded=[1], vocabulary_hash="v", search={1: EXACT})
        self.broken = False

    async def releases(self) -> ServingReleases:
        if self.broken:
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


async def refresh(release_monitor: ReleaseMonitor) -> None:
    """Run one refresh."""

    async def remember_popular() -> None:
        """Not needed here."""

    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await release_monitor.run(remember_popular)


async def test_a_release_with_a_collection_and_settings_serves_and_is_described(release_monitor, index, catalogue):
    await build(index, 1)
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies == {"ranker": OK, "index": OK, "feature_service": OK}
    assert (await catalogue.items(1, ["i7"]))["i7"].title == "Thing 7 of 1"


async def test_a_release_that_was_never_verified_is_refused(release_monitor, index, source):
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {}})
    await refresh(release_monitor)
    assert release_monitor.champion is None
    assert release_monitor.dependencies["index"].startswith("release 1 was never verified; run `make index`")


async def test_a_release_without_a_collection_does_not_replace_the_previous_one(release_monitor, index, source):
    await build(index, 1)
    await refresh(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v2" in release_monitor.dependencies["index"]
    await build(index, 2)
    await refresh(release_monitor)
    assert (release_monitor.champion, release_monitor.dependencies["index"]) == (2, OK)


async def test_a_challenger_that_cannot_be_opened_is_reported_and_does_not_serve(release_monitor, index, source):
    await build(index, 1)
    source.serving = ServingReleases(
        champion=1, challenger=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT}
    )
    await refresh(release_monitor)
    assert (release_monitor.champion, release_monitor.challenger) == (1, None)
    assert "items_v2" in release_monitor.dependencies["index"]
    await build(index, 2)
    await refresh(release_monitor)
    assert (release_monitor.challenger, release_monitor.dependencies["index"]) == (2, OK)


async def test_new_settings_of_the_same_release_are_applied(release_monitor, index, source):
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert release_monitor.releases is not None
    assert release_monitor.releases.search == {1: GRAPH}


async def test_a_collection_without_its_graph_serves_and_is_reported(release_monitor, index, source):
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies["index"] == "collection items_v1 is not indexed: 0 of 300 vectors"
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    assert release_monitor.dependencies["index"] == OK


async def test_the_last_releases_stay_while_the_ranker_cannot_be_reached(release_monitor, index, source):
    await build(index, 1)
    await refresh(release_monitor)
    source.broken = True
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies["ranker"] == "ranker cannot be reached"


async def test_the_last_releases_stay_while_the_index_fails(release_monitor, index):
    await build(index, 1)
    await refresh(release_monitor)
    await index.drop(1)
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v1" in release_monitor.dependencies["index"]


def indexed_metric(version: int) -> float | None:
    return REGISTRY.get_sample_value("tandem_collection_indexed", {"release": str(version)})


async def test_whether_a_collection_is_indexed_is_a_metric(release_monitor, index, source):
    await build(index, 1)
    await refresh(release_monitor)
    assert indexed_metric(1) == 1, "exact search needs no graph"
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert indexed_metric(1) == 0
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    assert indexed_metric(1) == 1


async def test_a_release_that_no_longer_serves_has_no_metric(release_monitor, index, source):
    await build(index, 1)
    await refresh(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await refresh(release_monitor)
    assert indexed_metric(1) == 1, "it serves until the next release can"
    await build(index, 2)
    await refresh(release_monitor)
    assert (indexed_metric(1), indexed_metric(2)) == (None, 1)
