"""API keys, their scopes and rate limits work, and no error message contains a key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from orchestrator.api_keys import ApiKeys, KeyScope, needed_scope
from orchestrator.auth import KEY_HEADER, ApiKeyMiddleware, RateLimits
from orchestrator.endpoints import router
from orchestrator.impressions import ImpressionBuffer
from orchestrator.settings import OrchestratorSettings
from recsys.adapters.in_memory_event_log import InMemoryEventLog
from recsys.contracts.recommendation import RecommendationResponse, Tier
from recsys.errors import RateLimited
from recsys.web.admission import Admission
from recsys.web.service import create_service, middleware_stack

PAGE, APP, TEAM, LOG = "0123456789abcdef", "fedcba9876543210", "0f1e2d3c4b5a6978", "8796a5b4c3d2e1f0"
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",:"), min_size=16, max_size=64)


def test_a_key_has_a_name_and_scopes() -> None:
    known = ApiKeys.parse(f"page:{PAGE}:events, app:{APP},team:{TEAM}:recommend+events+operate")
    callers = {key: known.caller_of(key.encode()) for key in (PAGE, APP, TEAM)}
    assert {key: caller.name for key, caller in callers.items() if caller} == {PAGE: "page", APP: "app", TEAM: "team"}
    assert {caller.name: set(caller.scopes) for caller in callers.values() if caller} == {
        "page": {"events"},
        "app": {"recommend", "events"},
        "team": {"recommend", "events", "operate"},
    }


@given(keys, st.binary(max_size=100))
def test_other_keys_are_not_valid(key: str, other: str) -> None:
    known = ApiKeys.parse(f"page:{key}")
    caller = known.caller_of(key.encode())
    assert caller is not None
    assert caller.name == "page"
    assert (known.caller_of(other) is None) == (other != key.encode())


def test_without_keys_there_is_no_name() -> None:
    assert not ApiKeys.parse("")
    assert ApiKeys.parse(f"page:{PAGE}")


WRONG_KEYS = {
    PAGE: "entry 1",
    f"page:{PAGE},{APP}": "entry 2",
    f"A Page:{PAGE}": "entry 1",
    f":{PAGE}": "entry 1",
    f"page:{PAGE[:15]}": "key of 'page' needs 16",
    f"page:{PAGE} {APP}": "key of 'page' needs 16",
    f"page:{PAGE}é": "key of 'page' needs 16",
    f"page:{PAGE},page:{APP}": "two keys have the name 'page'",
    f"page:{PAGE},app:{PAGE}": "key of 'app' also has another name",
    f"page:{PAGE}:": "scopes of 'page' are not",
    f"page:{PAGE}:read": "scopes of 'page' are not",
    f"page:{PAGE}:events+": "scopes of 'page' are not",
    f"page:{PAGE}:events events": "scopes of 'page' are not",
    f"page:{PAGE}:{APP}": "scopes of 'page' are not",
    f"page:{PAGE}:events:{APP}": "scopes of 'page' are not",
}


@pytest.mark.parametrize("text", WRONG_KEYS)
def test_errors_about_keys_do_not_contain_a_key(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name, value in {"FEATURE_SERVICE_URL": "http://f", "RANKER_URL": "http://r", "QDRANT_EDGE_DIR": "q"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", text)
    with pytest.raises(ValidationError, match=WRONG_KEYS[text]) as caught:
        OrchestratorSettings()
    assert PAGE[:8] not in str(caught.value)
    assert APP[:8] not in str(caught.value)


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", f"page:{PAGE}")
    with pytest.raises(ValidationError) as caught:  # because other settings are missing
        OrchestratorSettings()
    assert PAGE not in str(caught.value)
    shown = OrchestratorSettings(FEATURE_SERVICE_URL="http://f", RANKER_URL="http://r", QDRANT_EDGE_DIR="q")
    assert PAGE not in repr(shown)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORCHESTRATOR_RATE_LIMIT", "often"),
        ("ORCHESTRATOR_RATE_LIMIT", "10/fortnight"),
        ("ORCHESTRATOR_CORS_ORIGINS", "shop.example"),
        ("ORCHESTRATOR_CORS_ORIGINS", "https://*.shop.example"),
        ("ORCHESTRATOR_CORS_ORIGINS", "https://shop.example/"),
        ("ORCHESTRATOR_CORS_ORIGINS", "*"),
    ],
)
def test_invalid_settings_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        OrchestratorSettings(FEATURE_SERVICE_URL="http://f", RANKER_URL="http://r", QDRANT_EDGE_DIR="q")
    assert caught.value.errors()[0]["loc"] == (name.removeprefix("ORCHESTRATOR_").lower(),)


def test_each_caller_has_its_own_limit() -> None:
    limits = RateLimits.parse("3/hour")
    for _ in range(3):
        limits.count("page")
    with pytest.raises(RateLimited, match="'page' exceeded its limit of 3 per 1 hour") as caught:
        limits.count("page")
    assert 1 <= caught.value.retry_after_seconds <= 7200
    limits.count("app")


def test_the_narrowest_of_several_limits_applies() -> None:
    limits = RateLimits.parse("100/hour;2/day")
    limits.count("page")
    limits.count("page")
    with pytest.raises(RateLimited, match="2 per 1 day"):
        limits.count("page")


# --- scopes -----------------------------------------------------------------------------------------------------------

KEYS = ApiKeys.parse(f"page:{PAGE}:events,app:{APP},team:{TEAM}:operate,log:{LOG}:recommend+events+operate")
ADMISSION = Admission(1, 1, 1000.0, may_wait=0.25)
RECOMMENDATION = RecommendationResponse(
    recommendation_id="r.champion",
    user_id="u",
    recommendations=[],
    total_candidates=0,
    tier=Tier.POPULAR,
    tier_reason="unknown_user",
    release_version=None,
    variant="champion",
    timings_ms={"total": 1.0},
)


async def never(*_: Any) -> Any:
    raise AssertionError("never called")


def api_with(known: ApiKeys) -> FastAPI:
    """A service with these keys, whose every other path answers 200."""
    app = create_service(
        "guarded", "", never, never, middleware_stack(ADMISSION, [Middleware(ApiKeyMiddleware, known, None)])
    )
    app.router.default = PlainTextResponse("reached")  # what answers if no route matches
    return app


def client_of(app: ASGIApp) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://api")


@pytest.fixture
async def guarded() -> AsyncIterator[AsyncClient]:
    async with client_of(api_with(KEYS)) as client:
        yield client


@asynccontextmanager
async def recommending(known: ApiKeys) -> AsyncIterator[AsyncClient]:
    """The endpoints of the public API, on a pipeline that recommends nothing."""

    async def recommend(*_: Any) -> RecommendationResponse:
        return RECOMMENDATION

    app = api_with(known)
    app.include_router(router)
    opened = SimpleNamespace(
        variants=SimpleNamespace(recommend=recommend),
        impressions=ImpressionBuffer(InMemoryEventLog()),
        quality=SimpleNamespace(factor=1.0),
    )

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"orchestrator": opened}}, receive, send)

    async with client_of(with_state) as client:
        yield client


CALLS = {
    ("POST", "/v1/recommendations"): {"app", "log"},
    ("GET", "/v1/popular"): {"app", "log"},
    ("GET", "/v1/items"): {"app", "log"},
    ("GET", "/v1/items/a"): {"app", "log"},
    ("GET", "/v1/items/a/similar"): {"app", "log"},
    ("POST", "/v1/events"): {"page", "app", "log"},
    ("GET", "/metrics"): {"team", "log"},
    ("GET", "/v1/reports"): {"team", "log"},
    ("GET", "/nothing"): {"team", "log"},
    # The router ignores a line break at the end.
    ("POST", "/v1/events%0A"): {"team", "log"},
    ("POST", "/v1/recommendations%0A"): {"team", "log"},
    ("GET", "/metrics%0A"): {"team", "log"},
}
"""The keys that may make each call."""


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
async def test_a_key_opens_what_its_scopes_name(guarded: AsyncClient, call: tuple[str, str]) -> None:
    answers = {
        name: await guarded.request(*call, headers={"X-API-Key": key})
        for name, key in {"page": PAGE, "app": APP, "team": TEAM, "log": LOG}.items()
    }
    forbidden = {name: answer for name, answer in answers.items() if answer.status_code == 403}
    assert set(answers) - set(forbidden) == CALLS[call]
    assert not {answer.status_code for answer in answers.values()} & {401, 500}
    for name, answer in forbidden.items():
        assert answer.json()["error"] == "forbidden"
        assert f"the scope {needed_scope(call[1])!s}" in answer.json()["detail"]
        assert repr(name) in answer.json()["detail"]
    assert (await guarded.request(*call)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/redoc", "/openapi.json"])
async def test_probes_and_the_description_need_no_key(guarded: AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 200


async def test_a_key_may_be_sent_as_prometheus_sends_it(guarded: AsyncClient) -> None:
    assert (await guarded.get("/metrics", headers={"Authorization": f"Bearer {TEAM}"})).status_code == 200
    assert (await guarded.get("/metrics", headers={"Authorization": f"bearer {TEAM}"})).status_code == 200
    for refused in (TEAM, f"Basic {TEAM}", "Bearer", f"Bearer {TEAM} {TEAM}"):
        assert (await guarded.get("/metrics", headers={"Authorization": refused})).status_code == 401


@pytest.mark.parametrize(
    ("headers", "body", "named"),
    [({"X-Variant": "challenger"}, {}, "the header X-Variant"), ({}, {"debug": True}, "the field debug")],
)
async def test_an_override_and_debug_need_the_scope_operate(
    headers: dict[str, str], body: dict[str, bool], named: str
) -> None:
    async with recommending(KEYS) as client:
        refused, answered = [
            await client.post(
                "/v1/recommendations", json={"user_id": "u", **body}, headers={**headers, KEY_HEADER: key}
            )
            for key in (APP, LOG)
        ]
    assert refused.status_code == 403
    assert f"{named} needs a key with the scope operate; the key 'app' has" in refused.json()["detail"]
    assert answered.status_code == 200


async def test_without_keys_anybody_may_do_everything() -> None:
    async with recommending(ApiKeys.parse("")) as client:
        body = {"user_id": "u", "debug": True}
        answer = await client.post("/v1/recommendations", json=body, headers={"X-Variant": "champion"})
        assert answer.status_code == 200
        assert (await client.get("/metrics")).status_code == 200


def test_every_endpoint_has_a_scope_of_its_own() -> None:
    """A new endpoint has to be added to the table of scopes, or it needs `operate`."""
    found = {route.path: needed_scope(route.path) for route in router.routes if isinstance(route, APIRoute)}
    assert {path for path, scope in found.items() if scope == KeyScope.OPERATE} == {"/v1/reports/releases"}
    assert {path for path, scope in found.items() if scope == KeyScope.EVENTS} == {"/v1/events"}
