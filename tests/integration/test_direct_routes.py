"""The busiest calls are answered the same with and without FastAPI.

A content type with a parameter is unusual enough for a call to be left to FastAPI.
"""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from feature_service.endpoints import direct_route, router
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.base import MAX_HISTORY, MAX_ID_LENGTH
from recsys.contracts.events import Event
from recsys.web.admission import Admission
from recsys.web.service import create_api, middleware_stack
from tests import toy
from tests.conftest import Stack

DIRECT, BY_FASTAPI = "application/json", "application/json; charset=utf-8"
VARYING_FIELDS = ("recommendation_id", "timings_ms")
VARYING_HEADERS = ("x-request-id", "date", "content-length")
USER, ITEMS = next(iter(toy.USERS)), list(toy.ITEM_IDS[:4])
LONG = "x" * (MAX_ID_LENGTH + 1)

INVALID_BODIES: list[Any] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b'{"recent_items": ["\\ud800"]}',
    b'{"user_id": NaN}',
    b"\xff\xfe",
    {},
    {"surprise": 1},
]
RECOMMENDATIONS: list[Any] = [
    {"user_id": USER},
    {"user_id": USER, "top_k": 3},
    {"user_id": USER, "top_k": "3"},
    {"user_id": USER, "top_k": 3.0},
    {"user_id": USER, "top_k": 0},
    {"user_id": USER, "top_k": True},
    {"user_id": "unknown", "session_items": ITEMS},
    {"user_id": USER, "exclude_items": ITEMS, "debug": True},
    {"user_id": USER, "candidate_items": ITEMS},
    {"user_id": USER, "candidate_items": []},
    {"user_id": USER, "surprise": 1},
    {"user_id": ""},
    {"user_id": LONG},
    {"user_id": 5},
    {"user_id": "a/b ☃\n"},
    *INVALID_BODIES,
]
ENCODES: list[Any] = [
    {"recent_items": ITEMS},
    {"recent_items": ITEMS, "release": 1},
    {"recent_items": ITEMS, "release_version": 1},
    {"recent_items": ITEMS, "release": 99},
    {"recent_items": ["unknown"]},
    {"recent_items": []},
    {"recent_items": [LONG]},
    {"recent_items": ["a"] * (MAX_HISTORY + 1)},
    {"recent_items": "text"},
    *INVALID_BODIES,
]
RANKS: list[Any] = [
    {"recent_items": ITEMS, "candidate_items": [*ITEMS, "unknown", ITEMS[0]]},
    {"recent_items": [], "candidate_items": ITEMS},
    {"recent_items": ITEMS, "candidate_items": []},
    {"recent_items": ITEMS, "candidate_items": ITEMS, "release": 99},
    *INVALID_BODIES,
]
CASES = [
    *(("orchestrator_url", "/v1/recommendations", body) for body in RECOMMENDATIONS),
    *(("ranker_url", "/v1/encode", body) for body in ENCODES),
    *(("ranker_url", "/v1/rank", body) for body in RANKS),
]


def post(url: str, content_type: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What two answers have to have in common."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(url, content=content, headers={"content-type": content_type, **(headers or {})}, timeout=10)
    fields = answer.json()
    for field in VARYING_FIELDS:
        fields.pop(field, None)
    for each in fields.get("recommendations", []):
        each["score"] = round(each["score"], 3)  # popularity decays between the two calls
    names = {name: value for name, value in answer.headers.items() if name not in VARYING_HEADERS}
    return {"status": answer.status_code, "headers": names, "fields": fields}


@pytest.mark.parametrize(("service", "path", "body"), CASES)
def test_a_call_gets_the_same_answer(stack: Stack, service: str, path: str, body: Any) -> None:
    url = getattr(stack.settings, service) + path
    deadline = {"x-deadline-ms": "2000"}  # on a busy machine, the default could lead to another tier
    assert post(url, DIRECT, body, deadline) == post(url, BY_FASTAPI, body, deadline)


@pytest.mark.parametrize(
    "headers",
    [{"x-deadline-ms": "soon"}, {"x-deadline-ms": "1"}, {"x-deadline-ms": "99999"}, {"x-variant": "champion"}, {}],
    ids=str,
)
def test_headers_have_the_same_effect(stack: Stack, headers: dict[str, str]) -> None:
    url = f"{stack.settings.orchestrator_url}/v1/recommendations"
    assert post(url, DIRECT, {"user_id": USER}, headers) == post(url, BY_FASTAPI, {"user_id": USER}, headers)


PATHS = (
    "/v1/users/u/features",
    "/v1/users/a%2Fb/features",
    "/v1/users/%0A/features",
    "/v1/users/x%2Ffeatures/features",
    "/v1/users//features",
    "/v1/users/u%2Ffeatures",
    f"/v1/users/{LONG}/features",
    "/v1/users/u/features?x=1",
)


@pytest.mark.parametrize("path", PATHS)
async def test_features_are_the_same(path: str) -> None:
    store = InMemoryFeatureStore()
    await store.record([Event(user_id=user, item_id="i", event="view") for user in ("u", "a/b", "\n")], ["i"])

    async def answer(app: FastAPI) -> tuple[int, Any]:
        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"feature_store": store}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://features") as client:
            response = await client.get(path)
        return response.status_code, response.json()

    admission = Admission(1, 1, 1000.0, may_wait=0.25)
    direct = create_api("features", "", middleware_stack(admission, (), direct_route))
    by_fastapi = create_api("features", "", middleware_stack(admission))
    for app in (direct, by_fastapi):
        app.include_router(router)
    assert await answer(direct) == await answer(by_fastapi)
