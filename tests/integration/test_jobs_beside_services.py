"""What the services get from the jobs: the ranker's copies, the seeded features, a collection on a Qdrant server."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.settings import HOST
from recsys.errors import ReleaseDamaged, ReleaseNotLoaded, UpstreamUnavailable
from recsys.model.candidate_file import CANDIDATES_FILE
from recsys.model.files import WEIGHTS_FILE
from recsys.model.local_releases import LOCKS_FOLDER, LocalReleases
from recsys.model.registry import CHAMPION, SEARCH_TAG, ModelRegistry
from recsys.model.release_manifest import RELEASE_FILE, RELEASE_FILES
from tests import toy
from tests.conftest import Stack
from tests.engines import eventually, free_ports, is_whole, running
from training.jobs.index import index
from training.jobs.seed import seed

SEEDED_USER = list(toy.USERS)[-1]


@pytest.fixture
def registry(stack: Stack) -> ModelRegistry:
    return ModelRegistry(stack.settings.mlflow_url)


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return ModelRegistry(f"http://{HOST}:{free_ports(1)[0]}")


def features(stack: Stack, user_id: str) -> dict[str, Any]:
    answer = httpx.get(f"{stack.settings.feature_service_url}/v1/users/{user_id}/features")
    return answer.raise_for_status().json()


def popular(stack: Stack) -> dict[str, float]:
    answer = httpx.get(f"{stack.settings.feature_service_url}/v1/popular", params={"top_k": 1000})
    return {each["item_id"]: each["popularity"] for each in answer.raise_for_status().json()["items"]}


# --- the ranker's local copies ----------------------------------------------------------------------------------------


def test_a_release_is_fetched_once_and_then_loaded_from_disk(
    registry: ModelRegistry, no_registry: ModelRegistry, tmp_path: Path
) -> None:
    assert LocalReleases(tmp_path, registry).load(1).version == 1
    assert {path.name for path in (tmp_path / "1").iterdir()} == {*RELEASE_FILES, RELEASE_FILE, CANDIDATES_FILE}
    assert LocalReleases(tmp_path, no_registry).load(1).version == 1


def test_a_copy_that_was_damaged_is_fetched_again(
    registry: ModelRegistry, no_registry: ModelRegistry, tmp_path: Path
) -> None:
    LocalReleases(tmp_path, registry).load(1)
    weights = tmp_path / "1" / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert LocalReleases(tmp_path, registry).load(1).version == 1
    assert weights.read_bytes() == whole
    weights.write_bytes(whole[:-1])
    with pytest.raises(UpstreamUnavailable):
        LocalReleases(tmp_path, no_registry).load(1)


def test_an_interrupted_fetch_leaves_nothing_that_could_be_taken_for_a_release(
    no_registry: ModelRegistry, tmp_path: Path
) -> None:
    with pytest.raises(UpstreamUnavailable):
        LocalReleases(tmp_path, no_registry).load(1)
    assert [path.name for path in tmp_path.iterdir()] == [LOCKS_FOLDER]


def test_a_version_that_nobody_registered_is_not_loaded(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotLoaded):
        LocalReleases(tmp_path, registry).load(999)
    assert registry.version_of("no such fingerprint", {}) is None
    assert "no_such_alias" not in registry.aliases()


def test_the_champion_is_remembered_on_disk(registry: ModelRegistry, tmp_path: Path) -> None:
    releases = LocalReleases(tmp_path, registry)
    assert releases.last_aliases() == {}
    releases.remember({CHAMPION: 12})
    releases.remember({CHAMPION: 3, "previous": 12})
    assert LocalReleases(tmp_path, registry).last_aliases() == {CHAMPION: 3, "previous": 12}
    assert releases.aliases()[CHAMPION] == 1


def test_a_release_that_was_damaged_before_it_was_uploaded_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    class Damaging(ModelRegistry):
        def fetch(self, version: int, destination: Path) -> None:
            super().fetch(version, destination)
            (destination / WEIGHTS_FILE).write_bytes(b"damaged")

    damaging = Damaging(registry._tracking_uri)
    with pytest.raises(ReleaseDamaged, match=WEIGHTS_FILE):
        LocalReleases(tmp_path, damaging).load(1)


# --- seeded features --------------------------------------------------------------------------------------------------


def test_every_user_of_the_log_is_seeded_in_its_order_with_attributes(stack: Stack) -> None:
    for user_id, history in toy.USERS.items():
        stored = features(stack, user_id)
        assert stored["recent_items"][: len(history)] == history
        assert sorted(stored["seen_items"]) == sorted({*stored["recent_items"], *history})
        assert stored["attributes"]["interactions"] == str(len(history))
        assert "Things" in stored["attributes"]["favourite_categories"]


def test_seeding_again_changes_nothing_and_keeps_what_happened_in_between(stack: Stack) -> None:
    visitor = f"visitor-{uuid.uuid4().hex}"
    events = [{"user_id": user_id, "item_id": toy.ODD_ITEM, "event": "view"} for user_id in (SEEDED_USER, visitor)]
    httpx.post(f"{stack.settings.orchestrator_url}/v1/events", json=events).raise_for_status()
    users_before, popular_before = [features(stack, user_id) for user_id in (*toy.USERS, visitor)], popular(stack)
    seed(stack.jobs)
    assert [features(stack, user_id) for user_id in (*toy.USERS, visitor)] == users_before
    assert popular(stack) == pytest.approx(popular_before, rel=1e-3)


# --- on a Qdrant server -----------------------------------------------------------------------------------------------


@pytest.fixture
def search_tag_restored(registry: ModelRegistry) -> Iterator[None]:
    """Restores the tag by which version 1 is verified for Qdrant Edge; indexing on a server replaces it."""
    before = registry.tags_of(1)[SEARCH_TAG]
    yield
    registry.set_tag(1, SEARCH_TAG, before)


@pytest.mark.usefixtures("search_tag_restored")
def test_on_a_qdrant_server_the_same_is_recommended_as_on_edge(
    stack: Stack, qdrant_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (stack.jobs.models_dir / "latest").write_text("first")
    monkeypatch.setenv("QDRANT_URL", qdrant_server)
    assert "items_v1" in index(stack.jobs)
    assert "items_v1 with 60 items already exists" in index(stack.jobs)
    settings = stack.settings.model_copy(
        update={"qdrant_url": qdrant_server, "orchestrator_port": free_ports(1)[0], "state_dir": tmp_path}
    )
    with running(settings, "orchestrator"), httpx.Client(timeout=30) as client:
        eventually(lambda: is_whole(settings.orchestrator_url), "it is not ready")
        for path in ("/v1/items/item-07", "/v1/items/item-07/similar", "/v1/items?query=thing+7"):
            here, there = (client.get(f"{url}{path}").json() for url in _both(settings, stack))
            assert _without_scores(here) == _without_scores(there)
        for user_id in toy.USERS:
            body = {"user_id": user_id, "top_k": 20}
            here, there = (client.post(f"{url}/v1/recommendations", json=body).json() for url in _both(settings, stack))
            assert (here["tier"], here["release"]) == ("personalized", 1)
            assert _without_scores(here) == _without_scores(there)
    monkeypatch.delenv("QDRANT_URL")
    assert "items_v1" in index(stack.jobs)  # the version's search settings are those of Edge again


def _both(settings: Any, stack: Stack) -> tuple[str, str]:
    return settings.orchestrator_url, stack.settings.orchestrator_url


def _without_scores(answer: dict[str, Any]) -> dict[str, Any]:
    if "recommendations" not in answer:
        return answer
    return [{**each, "score": None} for each in answer["recommendations"]]
