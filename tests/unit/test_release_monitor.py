"""Which releases the orchestrator serves, and the problems it reports for the others."""

import json

import pytest
from prometheus_client import REGISTRY

from orchestrator.release_monitor import ReleaseMonitor
from recsys.adapters.in_memory import InMemoryVectorIndex
from recsys.adapters.release_catalogue import KEPT_RELEASES, ReleaseCatalogue
from recsys.contracts.retrieval import CatalogueItem, GraphSettings, IndexedItem, SearchSettings, ServingReleases
from recsys.errors import UpstreamUnavailable
from recsys.web.readiness import OK

EXACT = SearchSettings(hnsw_ef=None)
GRAPH = SearchSettings(hnsw_ef=128)
COUNT = 300
AWAY = UpstreamUnavailable("ranker cannot be reached")


class Source:
    """A ranker with configurable releases."""

    def __init__(self) -> None:
        self.serving = ServingReleases(champion=1, loaded=[1], vocabulary_hash="v", search={1: EXACT})
        self.broken: Exception | None = None
        self.downloads = 0

    async def releases(self) -> ServingReleases:
        if self.broken:
            raise self.broken
        return self.serving

    async def item_lines(self, release_version: int) -> bytes:
        self.downloads += 1
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


async def refresh(release_monitor: ReleaseMonitor, popular: Exception | None = None) -> None:
    """Run one refresh; `popular` is what the feature service raises."""

    async def remember_popular() -> None:
        if popular:
            raise popular

    await release_monitor.refresh(remember_popular)


async def test_a_release_with_a_collection_and_settings_serves_and_is_described(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, catalogue: ReleaseCatalogue
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies.states == {"ranker": OK, "index": OK, "feature_service": OK}
    assert (await catalogue.items(1, ["i7"]))["i7"].title == "Thing 7 of 1"


async def test_a_release_that_was_never_verified_is_refused(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {}})
    await refresh(release_monitor)
    assert release_monitor.champion is None
    assert release_monitor.dependencies.states["index"].startswith("release 1 was never verified; run `make index`")


async def test_a_release_without_a_collection_does_not_replace_the_previous_one(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v2" in release_monitor.dependencies.states["index"]
    await build(index, 2)
    await refresh(release_monitor)
    assert (release_monitor.champion, release_monitor.dependencies.states["index"]) == (2, OK)


async def test_a_challenger_that_cannot_be_opened_is_reported_and_does_not_serve(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    source.serving = ServingReleases(
        champion=1, challenger=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT}
    )
    await refresh(release_monitor)
    assert (release_monitor.champion, release_monitor.challenger) == (1, None)
    assert "items_v2" in release_monitor.dependencies.states["index"]
    await build(index, 2)
    await refresh(release_monitor)
    assert (release_monitor.challenger, release_monitor.dependencies.states["index"]) == (2, OK)


async def test_a_ramp_divides_the_users_and_needs_both_releases(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 2)
    both = {1: EXACT, 2: EXACT}
    source.serving = ServingReleases(champion=2, holdback=1, champion_percent=50, loaded=[1, 2], search=both)
    await refresh(release_monitor)
    assert (release_monitor.champion, release_monitor.holdback) == (2, None)
    users = [f"user-{number}" for number in range(200)]
    assert not any(map(release_monitor.is_held_back, users)), "the release before cannot be opened"
    assert "items_v1" in release_monitor.dependencies.states["index"]
    await build(index, 1)
    await refresh(release_monitor)
    assert (release_monitor.holdback, release_monitor.dependencies.states["index"]) == (1, OK)
    assert 50 < sum(map(release_monitor.is_held_back, users)) < 150
    assert (indexed_metric(1), indexed_metric(2)) == (1, 1)
    assert REGISTRY.get_sample_value("tandem_champion_percent") == 50


async def test_new_settings_of_the_same_release_are_applied(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert release_monitor.releases is not None
    assert release_monitor.releases.search == {1: GRAPH}


async def test_a_collection_without_its_graph_serves_and_is_reported(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies.states["index"] == "collection items_v1 is not indexed: 0 of 300 vectors"
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    assert release_monitor.dependencies.states["index"] == OK


async def test_the_last_releases_stay_while_the_ranker_cannot_be_reached(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    source.broken = AWAY
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies.states["ranker"] == "ranker cannot be reached"


async def test_the_last_releases_stay_while_the_index_fails(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    await index.drop(1)
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert "items_v1" in release_monitor.dependencies.states["index"]


def indexed_metric(version: int) -> float | None:
    return REGISTRY.get_sample_value("tandem_collection_indexed", {"release": str(version)})


async def test_whether_a_collection_is_indexed_is_a_metric(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    assert indexed_metric(1) == 1, "exact search needs no graph"
    source.serving = source.serving.model_copy(update={"search": {1: GRAPH}})
    await refresh(release_monitor)
    assert indexed_metric(1) == 0
    await build(index, 1, GraphSettings(16, 128))
    await refresh(release_monitor)
    assert indexed_metric(1) == 1


async def test_a_release_that_no_longer_serves_has_no_metric(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    source.serving = ServingReleases(champion=2, loaded=[1, 2], vocabulary_hash="v", search={1: EXACT, 2: EXACT})
    await refresh(release_monitor)
    assert indexed_metric(1) == 1, "it serves until the next release can"
    await build(index, 2)
    await refresh(release_monitor)
    assert (indexed_metric(1), indexed_metric(2)) == (None, 1)


async def test_while_nothing_changes_a_refresh_downloads_nothing(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    for _ in range(3):
        await refresh(release_monitor)
    assert source.downloads == 1


async def test_the_catalogue_of_the_serving_release_stays_while_newer_releases_cannot_be_opened(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source, catalogue: ReleaseCatalogue
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    for version in range(2, 3 + KEPT_RELEASES):
        source.serving = ServingReleases(champion=version, loaded=[1, version], search={1: EXACT, version: EXACT})
        await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert (await catalogue.items(1, ["i7"]))["i7"].title == "Thing 7 of 1"


async def test_without_a_champion_the_rankers_problems_are_the_reason(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    source.serving = ServingReleases(loaded=[])
    await refresh(release_monitor)
    assert "no release is loaded: train, register" in release_monitor.dependencies.states["ranker"]
    source.serving = ServingReleases(loaded=[], problems=["release 1: no space"])
    await refresh(release_monitor)
    assert release_monitor.dependencies.states["ranker"] == "no release is loaded: release 1: no space"


async def test_rankers_that_lose_all_releases_do_not_take_them_from_the_orchestrator(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    source.serving = ServingReleases(loaded=[])
    await refresh(release_monitor)
    assert release_monitor.champion == 1


async def test_problems_of_the_ranker_are_reported_while_it_serves(
    release_monitor: ReleaseMonitor, index: InMemoryVectorIndex, source: Source
) -> None:
    await build(index, 1)
    source.serving = source.serving.model_copy(update={"problems": ["1 of 3 rankers do not answer"]})
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert release_monitor.dependencies.states["ranker"] == "1 of 3 rankers do not answer"


# --- whether it can serve ---------------------------------------------------------------------------------------------


async def test_before_the_first_refresh_it_cannot_serve(release_monitor: ReleaseMonitor) -> None:
    assert not release_monitor.can_serve


async def test_with_everything_down_from_the_start_it_cannot_serve(
    release_monitor: ReleaseMonitor, source: Source
) -> None:
    source.broken = AWAY
    await refresh(release_monitor, popular=AWAY)
    assert not release_monitor.can_serve


async def test_without_a_champion_it_can_serve_popular_items_and_record_events(
    release_monitor: ReleaseMonitor, source: Source
) -> None:
    source.serving = ServingReleases(loaded=[])
    await refresh(release_monitor)
    assert release_monitor.can_serve


async def test_with_a_catalogue_alone_it_can_serve(release_monitor: ReleaseMonitor) -> None:
    await refresh(release_monitor, popular=AWAY)  # the release has no collection
    assert release_monitor.champion is None
    assert release_monitor.can_serve


async def test_once_it_can_serve_nothing_that_fails_changes_that(
    release_monitor: ReleaseMonitor, source: Source, index: InMemoryVectorIndex
) -> None:
    await build(index, 1)
    await refresh(release_monitor)
    source.broken = AWAY
    await index.drop(1)
    await refresh(release_monitor, popular=AWAY)
    assert release_monitor.can_serve


# --- what fails without a TandemError ---------------------------------------------------------------------------------


async def test_a_bug_is_reported_and_does_not_keep_the_rest_from_being_refreshed(
    release_monitor: ReleaseMonitor, source: Source, index: InMemoryVectorIndex
) -> None:
    await build(index, 1)
    source.broken = KeyError("a bug")
    await refresh(release_monitor, popular=ZeroDivisionError())
    assert release_monitor.dependencies.states["ranker"] == "the check failed: KeyError"
    assert release_monitor.dependencies.states["feature_service"] == "the check failed: ZeroDivisionError"
    source.broken = None
    await refresh(release_monitor)
    assert release_monitor.champion == 1
    assert set(release_monitor.dependencies.states.values()) == {OK}
