"""Search settings of a release: from the registry's tag, through the ranker, to the orchestrator."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ranker_service.endpoints import is_off_the_request_path, router
from ranker_service.release_watch import Problems, ReleaseWatch
from recsys.adapters.local_ranker import LocalRanker
from recsys.contracts.recall import RecallRequest, Retrieval
from recsys.contracts.retrieval import SearchSettings, ServingReleases
from recsys.errors import ReleaseDamaged, UpstreamUnavailable
from recsys.model.local_releases import LocalReleases
from recsys.model.registry import SEARCH_TAG
from recsys.web.admission import Admission
from recsys.web.service import create_api, middleware_stack

GRAPH = SearchSettings(hnsw_ef=256, oversampling=1.5)
EXACT = SearchSettings(hnsw_ef=None)


class Registry:
    """Has tags, or is unavailable."""

    def __init__(self, tags: dict[int, dict[str, str]]) -> None:
        self.tags = tags
        self.unavailable = False

    def tags_of(self, version: int) -> dict[str, str]:
        if self.unavailable:
            raise UpstreamUnavailable("MLflow is unavailable")
        return self.tags[version]


def local_releases(directory: Path, tags: dict[int, dict[str, str]]) -> tuple[LocalReleases, Registry]:
    registry: Any = Registry(tags)
    return LocalReleases(directory, registry), registry


def test_the_tag_may_have_additional_fields(tmp_path: Path) -> None:
    tag = '{"hnsw_ef": 256, "oversampling": 1.5, "m": 32, "recall": 0.987}'
    releases, _ = local_releases(tmp_path, {1: {SEARCH_TAG: tag}, 2: {SEARCH_TAG: '{"hnsw_ef": null}'}, 3: {}})
    assert releases.registered(1).search == GRAPH
    assert releases.registered(2).search == EXACT
    assert releases.registered(3).search is None


@pytest.mark.parametrize("tag", ["", "no JSON", "{}", "[]", '{"hnsw_ef": 0}', '{"hnsw_ef": "wide"}'])
def test_a_tag_that_cannot_be_read_is_an_error(tmp_path: Path, tag: str) -> None:
    releases, _ = local_releases(tmp_path, {1: {SEARCH_TAG: tag}})
    with pytest.raises(ReleaseDamaged, match="version 1"):
        releases.registered(1)


def test_settings_are_saved_for_a_start_without_the_registry(tmp_path: Path) -> None:
    releases, _ = local_releases(tmp_path, {})
    assert releases.last_search() == {}
    releases.remember_search({1: GRAPH, 2: EXACT})
    assert releases.last_search() == {1: GRAPH, 2: EXACT}
    (tmp_path / "search.json").write_text("half of a fi")
    assert releases.last_search() == {}


def watch(directory: Path, tags: dict[int, dict[str, str]]) -> tuple[ReleaseWatch, LocalRanker, Registry]:
    ranker = LocalRanker()
    releases, registry = local_releases(directory, tags)
    watching = ReleaseWatch(releases, ranker, directory, poll_seconds=1.0)
    return watching, ranker, registry


async def test_the_watch_follows_the_tag_and_keeps_the_last_while_the_registry_is_unavailable(tmp_path: Path) -> None:
    watching, ranker, registry = watch(tmp_path, {1: {SEARCH_TAG: '{"hnsw_ef": null}'}, 2: {}})
    problems: Problems = {}
    await watching._refresh_registered([1, 2, 1], problems)
    assert (ranker.search, problems) == ({1: EXACT}, {})
    registry.tags[1] = {SEARCH_TAG: GRAPH.model_dump_json()}
    await watching._refresh_registered([1, 2], problems)
    assert ranker.search == {1: GRAPH}
    registry.unavailable = True
    await watching._refresh_registered([1, 2], problems)
    assert ranker.search == {1: GRAPH}
    assert list(problems) == ["MLflow: upstream_unavailable"]
    watching.close()

    started_without, ranker, registry = watch(tmp_path, {})
    registry.unavailable = True
    await started_without._refresh_registered([1, 2], {})
    assert ranker.search == {1: GRAPH}
    started_without.close()


async def test_a_damaged_tag_is_reported_and_does_not_hide_others(tmp_path: Path) -> None:
    watching, ranker, _ = watch(tmp_path, {1: {SEARCH_TAG: "?"}, 2: {SEARCH_TAG: '{"hnsw_ef": null}'}})
    problems: Problems = {}
    await watching._refresh_registered([1, 2], problems)
    assert ranker.search == {2: EXACT}
    assert [problem[:10] for problem in problems] == ["release 1:"]
    watching.close()


def test_settings_survive_serialization() -> None:
    serving = ServingReleases(champion=1, loaded=[1], vocabulary_hash="v", search={1: GRAPH}, weights_hashes={1: "w"})
    assert ServingReleases.model_validate_json(serving.model_dump_json()) == serving
    assert ServingReleases.model_validate_json('{"champion": 1, "loaded": [1], "vocabulary_hash": "v"}').search == {}


def ranker_api(lines: bytes = b"") -> httpx.AsyncClient:
    """The ranker's API, with no capacity for requests that need admission."""
    ranker: Any = LocalRanker()
    ranker._releases = {1: SimpleNamespace(item_lines=memoryview(lines))} if lines else {}
    busy = Admission(max_concurrent=0, max_queued=0, deadline_ms=1, may_wait=0, exempt=is_off_the_request_path)
    api = create_api("ranker", "", middleware_stack(busy))
    api.include_router(router)
    api.state.ranker = ranker
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://ranker")


async def test_a_releases_items_are_sent_unchanged_even_by_a_busy_ranker() -> None:
    lines = b'{"item_id": "a", "title": "A"}\n' * 100_000
    async with ranker_api(lines) as client:
        answer = await client.get("/v1/releases/1/items")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert answer.content == lines
        assert (await client.post("/v1/encode", json={"recent_items": ["a"]})).status_code == 429


async def test_a_busy_ranker_says_what_it_has_loaded() -> None:
    async with ranker_api() as client:
        assert (await client.get("/v1/releases")).json()["loaded"] == []


async def test_recall_needs_no_admission() -> None:
    retrieval = Retrieval(2, "w", [1.0], 10, (), [])
    async with ranker_api() as client:
        answer = await client.post("/v1/recall", json=RecallRequest.of(retrieval).model_dump())
        assert (answer.status_code, answer.json()["error"]) == (503, "release_not_loaded")


async def test_items_of_a_release_that_is_not_loaded_are_an_error() -> None:
    async with ranker_api() as client:
        answer = await client.get("/v1/releases/2/items")
        assert (answer.status_code, answer.json()["error"]) == (503, "release_not_loaded")
        assert (await client.get("/v1/releases/0/items")).status_code == 422
