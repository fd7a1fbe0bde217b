"""What an operator uses: health, readiness, metrics and API descriptions; and how services behave when a part fails."""

import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.settings import HOST, LocalSettings
from recsys.contracts.recommendation import Tier
from recsys.model.registry import CHAMPION, ModelRegistry
from tests import toy
from tests.conftest import Stack
from tests.engines import eventually, free_ports, is_whole, local_settings, running
from training.jobs.index import index
from training.jobs.promote import promote
from training.jobs.register import register
from training.jobs.rollback import rollback

SERVICES = ("orchestrator_url", "feature_service_url", "ranker_url")
USER = next(iter(toy.USERS))


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, stack: Stack) -> str:
    return getattr(stack.settings, request.param)


def recommend(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    return api.post("/v1/recommendations", json={"user_id": USER, **fields}).raise_for_status().json()


# --- before there is a model ------------------------------------------------------------------------------------------

HEALTH = ("healthz", "ranker healthz", "features healthz", "features readyz")


@pytest.mark.parametrize("name", HEALTH)
def test_before_there_is_a_model_the_services_are_healthy(stack: Stack, name: str) -> None:
    assert stack.before_events[name].status_code == 200
    assert stack.before_release[name].status_code == 200


@pytest.mark.parametrize("name", ["recommend", "rank", "popular"])
def test_before_there_is_anything_the_answer_is_clear_and_no_error(stack: Stack, name: str) -> None:
    answer = stack.before_events[name]
    assert answer.status_code == 200
    assert [each["item_id"] for each in answer.json()["recommendations"]] == (
        [toy.ITEM_IDS[1]] if name == "rank" else []
    )
    assert answer.json()["release"] is None


@pytest.mark.parametrize("name", ["recommend", "rank"])
def test_before_there_is_a_model_the_reason_is_told(stack: Stack, name: str) -> None:
    body = stack.before_events[name].json()
    assert body["tier"] == Tier.POPULAR
    expected = {"recommend": "encode:release_not_loaded,no_catalogue", "rank": "unknown_user"}
    assert body["tier_reason"] == expected[name]


def test_before_there_is_a_model_an_item_of_an_event_is_not_shown(stack: Stack) -> None:
    """No catalogue knows it."""
    for name in ("recommend", "popular"):
        assert stack.before_release[name].json()["recommendations"] == []


def test_before_there_is_a_model_the_ranker_says_that_it_is_empty(stack: Stack) -> None:
    answer = stack.before_release["ranker releases"]
    assert answer.status_code == 200
    assert (answer.json()["champion"], answer.json()["loaded"]) == (None, [])


@pytest.mark.parametrize("name", ["item", "similar", "search", "ranker encode"])
def test_before_there_is_a_model_what_needs_one_says_so(stack: Stack, name: str) -> None:
    answer = stack.before_release[name]
    assert answer.status_code == 503
    assert answer.json()["error"] == "release_not_loaded"
    assert "train, register, index and promote" in answer.json()["detail"]


def test_before_there_is_a_model_readiness_says_what_is_missing(stack: Stack) -> None:
    answer = stack.before_release["readyz"]
    assert answer.status_code == 200, "it records events and serves popular items"
    assert (answer.json()["ready"], answer.json()["degraded"]) == (True, True)
    assert "no release is loaded" in answer.json()["dependencies"]["ranker"]
    assert answer.json()["dependencies"]["feature_service"] == "ok"
    assert stack.before_release["ranker readyz"].status_code == 503
    assert "there is no champion yet" in stack.before_release["ranker readyz"].text


# --- with a model -----------------------------------------------------------------------------------------------------


def test_every_service_is_healthy_and_ready(api: httpx.Client, service: str) -> None:
    assert api.get(f"{service}/healthz").status_code == 200
    assert api.get(f"{service}/readyz").status_code == 200


def test_readiness_names_the_dependencies(api: httpx.Client, stack: Stack) -> None:
    names = {"ranker": "ok", "index": "ok", "feature_service": "ok"}
    assert api.get("/readyz").json() == {"ready": True, "dependencies": names, "degraded": False}
    answer = api.get(f"{stack.settings.feature_service_url}/readyz").json()
    assert answer == {"ready": True, "dependencies": {"redis": "ok"}, "degraded": False}


def counted(api: httpx.Client, service: str, route: str, status: int) -> float:
    text = api.get(f"{service}/metrics").raise_for_status().text
    labels = {f'route="{route}"', f'status="{status}"'}
    lines = [line for line in text.splitlines() if line.startswith("tandem_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels))


def test_requests_are_counted_by_route_and_status(api: httpx.Client, stack: Stack) -> None:
    asked = {
        stack.settings.orchestrator_url: ("POST", "/v1/recommendations", "/v1/recommendations"),
        stack.settings.feature_service_url: ("GET", "/v1/users/u/features", "/v1/users/{user_id}/features"),
        stack.settings.ranker_url: ("POST", "/v1/encode", "/v1/encode"),
    }
    for service, (method, path, route) in asked.items():
        route = next(iter(re.findall(r'route="(/v1/users/[^"]*)"', api.get(f"{service}/metrics").text)), route)
        bodies = {"/v1/recommendations": {"user_id": "u"}, "/v1/encode": {"recent_items": ["x"]}}
        api.request(method, f"{service}{path}", json=bodies.get(path)).raise_for_status()
        before = counted(api, service, route, 200)
        assert before >= 1
        api.request(method, f"{service}{path}", json=bodies.get(path)).raise_for_status()
        assert counted(api, service, route, 200) > before
        assert "tandem_request_seconds_bucket" in api.get(f"{service}/metrics").text


def test_metrics_do_not_grow_with_the_paths_that_are_asked_for(api: httpx.Client, service: str) -> None:
    for number in range(3):
        for folder in ("", "/v1", "/v1/items", "/v1/users", "/v1/releases", "/static_content"):
            api.get(f"{service}{folder}/unheard-of-{number}")
    assert "unheard-of" not in api.get(f"{service}/metrics").text


def test_every_service_describes_its_api(api: httpx.Client, service: str) -> None:
    described = api.get(f"{service}/openapi.json").raise_for_status().json()
    assert described["openapi"].startswith("3.")
    assert any(path.startswith("/v1/") for path in described["paths"])


def test_the_description_of_the_api_names_every_endpoint(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    named = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {
        "POST /v1/recommendations",
        "POST /v1/events",
        "GET /v1/popular",
        "GET /v1/items",
        "GET /v1/items/{item_id}",
        "GET /v1/items/{item_id}/similar",
    } <= named


# --- while a part is unavailable --------------------------------------------------------------------------------------


def test_while_mlflow_is_away_the_ranker_keeps_serving(api: httpx.Client, stack: Stack) -> None:
    log_file = stack.engines["ranker_service"].log_file
    reported = log_file.read_text().count("release_not_loaded")
    with stack.mlflow_proxy.closed():
        eventually(
            lambda: log_file.read_text().count("release_not_loaded") > reported,
            "MLflow was not reported",
        )
        ready = api.get(f"{stack.settings.ranker_url}/readyz")
        assert (ready.status_code, "MLflow" in ready.text) == (200, True)
        assert recommend(api)["tier"] == "personalized"


def test_a_ranker_starts_from_its_own_copy_while_mlflow_is_away(stack: Stack, tmp_path: Path) -> None:
    unused = f"http://{HOST}:{free_ports(1)[0]}"
    settings = local_settings(tmp_path, mlflow_tracking_uri=unused)
    shutil.copytree(stack.settings.home / "releases", settings.home / "releases")
    with running(settings, "ranker_service"), httpx.Client(base_url=settings.ranker_url, timeout=30) as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "the ranker did not find its copy")
        assert client.get("/v1/releases").json()["champion"] == 1
        body = {"recent_items": [toy.ITEM_IDS[0]], "candidate_items": toy.ITEM_IDS}
        here = client.post("/v1/rank", json=body).json()
        assert here == client.post(f"{stack.settings.ranker_url}/v1/rank", json=body).json()


def test_while_redis_is_away_the_popular_items_of_before_are_served(api: httpx.Client, stack: Stack) -> None:
    popular = [each["item_id"] for each in api.get("/v1/popular?top_k=100").json()["recommendations"]]
    with stack.redis_proxy.closed():
        answer = recommend(api, top_k=5)
        assert answer["tier"] == Tier.STATIC
        assert answer["tier_reason"] in {"features:upstream_unavailable", "features:upstream_suspended"}
        assert [each["item_id"] for each in answer["recommendations"]] == popular[:5]
        assert all(each["title"] for each in answer["recommendations"])
        assert recommend(api, session_items=["item-01"])["tier"] == Tier.PERSONALIZED
        eventually(lambda: "Redis" in api.get("/readyz").json()["dependencies"]["feature_service"])
        degraded = api.get("/readyz")
        assert degraded.json()["degraded"] is True
        assert degraded.status_code == 200, "degraded responses are better than none"
        assert api.get(f"{stack.settings.feature_service_url}/readyz").status_code == 503
        events = [{"user_id": "u", "item_id": "i", "event": "view"}]
        bodies = {
            stack.settings.orchestrator_url: events,
            stack.settings.feature_service_url: {"events": events, "known": [True]},
        }
        for service, body in bodies.items():
            assert api.get(f"{service}/healthz").status_code == 200
            refused = api.post(f"{service}/v1/events", json=body)
            assert refused.status_code == 503
            assert refused.json()["error"] in {"upstream_unavailable", "upstream_suspended"}
            assert refused.headers["retry-after"] == "1"
        assert "Redis" in api.get(f"{stack.settings.feature_service_url}/readyz").json()["dependencies"]["redis"]
    eventually(lambda: is_whole(stack.settings.orchestrator_url), "the services did not reconnect to Redis")
    assert recommend(api)["tier"] == Tier.PERSONALIZED


def test_an_orchestrator_that_is_all_alone_answers_and_says_what_is_missing(stopped: LocalSettings) -> None:
    with running(stopped, "orchestrator"), httpx.Client(base_url=stopped.orchestrator_url, timeout=30) as client:
        assert client.get("/healthz").status_code == 200
        eventually(lambda: "checked" not in client.get("/readyz").json()["dependencies"]["feature_service"])
        dependencies = client.get("/readyz").json()["dependencies"]
        assert client.get("/readyz").status_code == 503
        assert all(name in dependencies for name in ("ranker", "index", "feature_service"))
        assert "ok" not in dependencies.values()
        answer = client.post("/v1/recommendations", json={"user_id": "u", "session_items": ["a"]})
        assert (answer.status_code, answer.json()["recommendations"]) == (200, [])
        assert answer.json()["tier"] == Tier.STATIC
        given = client.post("/v1/recommendations", json={"user_id": "u", "candidate_items": ["b", "a"]})
        assert [each["item_id"] for each in given.json()["recommendations"]] == ["b", "a"]
        assert client.get("/v1/popular").json()["recommendations"] == []


# --- a new release ----------------------------------------------------------------------------------------------------


def test_a_new_release_is_served_without_a_restart_and_can_be_taken_back(api: httpx.Client, stack: Stack) -> None:
    first = recommend(api)
    toy.write_model(stack.jobs, "second", seed=2)
    register(stack.jobs)
    assert recommend(api)["release"] == 1, "registering is not promoting"
    assert recommend(api)["release"] == 1
    promote(stack.jobs)
    try:
        eventually(lambda: recommend(api)["release"] == 2, "the second release was not picked up")
        second = recommend(api)
        assert second["tier"] == Tier.PERSONALIZED
        assert second["recommendations"] != first["recommendations"]
        body = {"recent_items": ["item-01"], "candidate_items": ["item-02"], "release": 1}
        assert api.post(f"{stack.settings.ranker_url}/v1/rank", json=body).json()["release"] == 1
    finally:
        rollback(stack.jobs)
        eventually(lambda: recommend(api)["release"] == 1, "the first release did not come back")
    assert recommend(api)["recommendations"] == first["recommendations"]
    eventually(lambda: is_whole(stack.settings.orchestrator_url))


def test_registering_and_indexing_again_changes_nothing(stack: Stack) -> None:
    (stack.jobs.models_dir / "latest").write_text("first")
    assert "already version 1" in register(stack.jobs)
    assert "already exists" in index(stack.jobs)
    assert ModelRegistry(stack.settings.mlflow_url).aliases()[CHAMPION] == 1
