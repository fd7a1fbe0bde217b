"""Every rejected request gets a reason: `{"error": code, "detail": what arrived and what was expected}`."""

from collections.abc import Iterator

import httpx
import pytest

from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY, MAX_ID_LENGTH
from recsys.contracts.events import MAX_EVENTS
from tests import toy
from tests.conftest import Stack

RECOMMEND = "/v1/recommendations"
EVENT = {"user_id": "u", "item_id": "i", "event": "view"}
LONG = "x" * (MAX_ID_LENGTH + 1)
INVALID_BODIES = {
    "no user": (RECOMMEND, {}, ["user_id", "required"]),
    "top_k too small": (RECOMMEND, {"user_id": "u", "top_k": 0}, ["top_k", "greater than or equal to 1", "0"]),
    "top_k too large": (RECOMMEND, {"user_id": "u", "top_k": 101}, ["top_k", "less than or equal to 100", "101"]),
    "top_k no number": (RECOMMEND, {"user_id": "u", "top_k": "many"}, ["top_k", "integer", "'many'"]),
    "user no text": (RECOMMEND, {"user_id": 5}, ["user_id", "string", "5"]),
    "user too long": (RECOMMEND, {"user_id": LONG}, ["user_id", "128", "xxx"]),
    "user empty": (RECOMMEND, {"user_id": ""}, ["user_id", "at least 1 character"]),
    "unknown field": (RECOMMEND, {"user_id": "u", "topk": 5}, ["topk", "not permitted"]),
    "no object": (RECOMMEND, [1, 2], ["body", "[1, 2]"]),
    "too many candidates": (
        RECOMMEND,
        {"user_id": "u", "candidate_items": ["i"] * (MAX_CANDIDATES + 1)},
        ["candidate_items", "1000", "1001"],
    ),
    "no candidates": (RECOMMEND, {"user_id": "u", "candidate_items": []}, ["candidate_items", "at least 1"]),
    "a candidate too long": (RECOMMEND, {"user_id": "u", "candidate_items": ["a", LONG]}, ["candidate_items.1", "128"]),
    "too long a session": (RECOMMEND, {"user_id": "u", "session_items": ["i"] * (MAX_HISTORY + 1)}, ["200", "201"]),
    "events no list": ("/v1/events", EVENT, ["body", "list"]),
    "no events": ("/v1/events", [], ["at least 1"]),
    "too many events": ("/v1/events", [EVENT] * (MAX_EVENTS + 1), ["1000", "1001"]),
    "timestamp in milliseconds": ("/v1/events", [{**EVENT, "timestamp": 1.7e12}], ["0.timestamp", "10000000000"]),
    "event no word": ("/v1/events", [EVENT, {**EVENT, "event": "No Word"}], ["1.event", "'No Word'"]),
    "many problems": (RECOMMEND, {"user_id": 1, **{f"field{n}": 1 for n in range(9)}}, ["and 5 more"]),
}


def error_body(answer: httpx.Response) -> dict[str, str]:
    body = answer.json()
    assert set(body) == {"error", "detail"}, body
    assert all(isinstance(value, str) and value for value in body.values())
    assert answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize("case", INVALID_BODIES)
def test_an_invalid_body_is_told_what_arrived_and_what_was_expected(api: httpx.Client, case: str) -> None:
    path, body, expected = INVALID_BODIES[case]
    answer = api.post(path, json=body)
    assert answer.status_code == 422
    assert error_body(answer)["error"] == "invalid_request"
    for words in expected:
        assert words in error_body(answer)["detail"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/popular?top_k=0", ["query.top_k", "1", "'0'"]),
        ("/v1/popular?top_k=101", ["query.top_k", "100", "'101'"]),
        ("/v1/popular?top_k=ten", ["query.top_k", "integer", "'ten'"]),
        ("/v1/items", ["query.query", "required"]),
        ("/v1/items?query=", ["query.query", "1 character"]),
        (f"/v1/items?query={'x' * 201}", ["query.query", "200"]),
        ("/v1/items?query=a&limit=0", ["query.limit", "'0'"]),
        (f"/v1/items/{LONG}", ["path.item_id", "128"]),
        (f"/v1/items/{LONG}/similar", ["path.item_id", "128"]),
    ],
)
def test_an_invalid_parameter_is_told_what_arrived_and_what_was_expected(
    api: httpx.Client, path: str, words: list[str]
) -> None:
    answer = api.get(path)
    assert answer.status_code == 422
    for word in words:
        assert word in error_body(answer)["detail"]


@pytest.mark.parametrize("body", [b"{", b"", b"user_id=u", b'{"user_id": "u"', b"\xff\xfe", b'{"user_id": "\\ud800"}'])
def test_what_is_no_json_is_refused(api: httpx.Client, body: bytes) -> None:
    answer = api.post(RECOMMEND, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert error_body(answer)["error"] == "invalid_request"


def test_a_long_value_is_not_repeated_in_full(api: httpx.Client) -> None:
    answer = api.post(RECOMMEND, json={"user_id": "secret" * 10_000})
    assert len(error_body(answer)["detail"]) < 500


def test_a_body_over_the_limit_is_refused(api: httpx.Client) -> None:
    answer = api.post(RECOMMEND, content=b'{"user_id": "' + b"x" * 1_000_000 + b'"}')
    assert answer.status_code == 413
    assert error_body(answer)["error"] == "request_too_large"
    assert "1,000,000" in error_body(answer)["detail"]


def test_a_body_over_the_limit_is_refused_when_its_length_is_not_announced(api: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"user_id": "'
        for _ in range(110):
            yield b"x" * 10_000
        yield b'"}'

    answer = api.post(RECOMMEND, content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert error_body(answer)["error"] == "request_too_large"


def test_a_chunked_body_within_the_limit_is_taken(api: httpx.Client) -> None:
    chunks = iter([b'{"user_', b'id": "u"}'])
    assert api.post(RECOMMEND, content=chunks, headers={"content-type": "application/json"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/items/no-such-item", "/v1/items/no-such-item/similar"])
def test_an_unknown_item_is_not_found_and_named(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert error_body(answer)["error"] == "unknown_item"
    assert "'no-such-item'" in error_body(answer)["detail"]


@pytest.mark.parametrize("service", ["orchestrator_url", "feature_service_url", "ranker_url"])
def test_an_unknown_path_is_not_found(api: httpx.Client, stack: Stack, service: str) -> None:
    answer = api.get(f"{getattr(stack.settings, service)}/v1/nothing/here")
    assert answer.status_code == 404
    assert error_body(answer) == {"error": "not_found", "detail": "GET /v1/nothing/here: Not Found"}


@pytest.mark.parametrize(
    ("service", "path"),
    [("orchestrator_url", RECOMMEND), ("feature_service_url", "/v1/events"), ("ranker_url", "/v1/rank")],
)
def test_a_wrong_method_is_told(api: httpx.Client, stack: Stack, service: str, path: str) -> None:
    answer = api.get(f"{getattr(stack.settings, service)}{path}")
    assert answer.status_code == 405
    assert error_body(answer)["error"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("feature_service_url", "/v1/events", [{"user_id": "u"}]),
        ("ranker_url", "/v1/encode", {"recent_items": []}),
        ("ranker_url", "/v1/rank", {"recent_items": [], "candidate_items": ["a"], "surprise": 1}),
    ],
)
def test_the_services_behind_refuse_alike(
    api: httpx.Client, stack: Stack, service: str, path: str, body: list[dict[str, str]]
) -> None:
    answer = api.post(f"{getattr(stack.settings, service)}{path}", json=body)
    assert answer.status_code == 422
    assert error_body(answer)["error"] == "invalid_request"


@pytest.mark.parametrize("service", ["feature_service_url", "ranker_url"])
def test_the_services_behind_limit_bodies_too(api: httpx.Client, stack: Stack, service: str) -> None:
    path = "/v1/events" if service == "feature_service_url" else "/v1/encode"
    answer = api.post(f"{getattr(stack.settings, service)}{path}", content=b"x" * 1_000_001)
    assert answer.status_code == 413
    assert error_body(answer)["error"] == "request_too_large"


def test_an_unknown_release_is_refused_by_the_ranker(api: httpx.Client, stack: Stack) -> None:
    body = {"recent_items": [], "candidate_items": ["a"], "release": 999}
    answer = api.post(f"{stack.settings.ranker_url}/v1/rank", json=body)
    assert answer.status_code == 503
    assert error_body(answer)["error"] == "release_not_loaded"


@pytest.mark.parametrize("given", ["19", "2001", "0", "-5", "soon", "50.5", "", "9" * 40])
def test_a_deadline_out_of_bounds_is_refused(api: httpx.Client, given: str) -> None:
    answer = api.post("/v1/recommendations", json={"user_id": "u"}, headers={"x-deadline-ms": given})
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert "x-deadline-ms" in answer.json()["detail"]


@pytest.mark.parametrize("given", ["20", "2000"])
def test_a_deadline_within_bounds_is_taken(api: httpx.Client, given: str) -> None:
    assert api.post("/v1/recommendations", json={"user_id": "u"}, headers={"x-deadline-ms": given}).status_code == 200


def test_hops_do_not_begin_what_nobody_waits_for(stack: Stack, api: httpx.Client) -> None:
    body = {"recent_items": [toy.ITEM_IDS[0]]}
    late = api.post(f"{stack.settings.ranker_url}/v1/encode", json=body, headers={"x-deadline-ms": "0"})
    assert (late.status_code, late.json()["error"]) == (429, "overloaded")
    user = f"{stack.settings.feature_service_url}/v1/users/u/features"
    assert api.get(user, headers={"x-deadline-ms": "0"}).status_code == 429
    assert api.get(user, headers={"x-deadline-ms": "1000"}).status_code == 200
