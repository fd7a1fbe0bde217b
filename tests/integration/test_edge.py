"""The API at its edge: keys, rate limits, browsers of other origins, malformed requests, and what responses reveal."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from local.settings import HOST, LocalSettings
from tests import toy
from tests.conftest import Stack, beside
from tests.engines import ServiceProcess, eventually, free_ports, local_settings, running

PAGE, APP, TEAM = "the-key-of-the-page", "the-key-of-the-app!", "the-key-of-the-team"
ORIGIN = "https://shop.example"
RATE = 40
CALLS = {
    "recommendations": ("POST", "/v1/recommendations", {"user_id": "u"}),
    "events": ("POST", "/v1/events", [{"user_id": "u", "item_id": "i", "event": "view"}]),
    "popular": ("GET", "/v1/popular", None),
    "item": ("GET", f"/v1/items/{toy.ITEM_IDS[0]}", None),
    "similar": ("GET", f"/v1/items/{toy.ITEM_IDS[0]}/similar", None),
    "search": ("GET", "/v1/items?query=thing", None),
    "nothing": ("GET", "/v1/nothing", None),
}
OPEN = ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json")
BODIES = ("/v1/recommendations", "/v1/events")


@pytest.fixture(scope="module")
def guarded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, ServiceProcess]]:
    """An orchestrator that requires keys and uses the stack's other services."""
    own = local_settings(tmp_path_factory.mktemp("guarded"))
    environment = {
        "FEATURE_SERVICE_URL": stack.settings.feature_service_url,
        "RANKER_URL": stack.settings.ranker_url,
        "ORCHESTRATOR_API_KEYS": f"page:{PAGE},app:{APP},team:{TEAM}:operate",
        "ORCHESTRATOR_RATE_LIMIT": f"{RATE}/hour;1000/day",
        "ORCHESTRATOR_CORS_ORIGINS": f"{ORIGIN},https://www.shop.example",
    }
    with running(own, "orchestrator", **environment) as engines, httpx.Client(base_url=own.orchestrator_url) as client:
        yield client, engines["orchestrator"]


@pytest.fixture
def edge(guarded: tuple[httpx.Client, ServiceProcess]) -> httpx.Client:
    return guarded[0]


def error_of(answer: httpx.Response) -> str:
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert answer.headers["x-request-id"]
    return body["error"]


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", [None, "", "a-key-of-no-caller", PAGE[:-1], PAGE[1:], PAGE.upper()])
def test_without_a_valid_key_nothing_is_done(edge: httpx.Client, call: str, key: str) -> None:
    method, path, body = CALLS[call]
    answer = edge.request(method, path, json=body, headers={} if key is None else {"X-API-Key": key})
    assert (answer.status_code, error_of(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "APIKey"
    assert PAGE not in answer.text


@pytest.mark.parametrize("key", [PAGE, APP])
def test_every_valid_key_opens(edge: httpx.Client, key: str) -> None:
    assert edge.get("/v1/popular", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_health_and_documentation_are_open(edge: httpx.Client, path: str) -> None:
    assert edge.get(path).status_code in (200, 503 if path == "/readyz" else 200)


def metrics_of(edge: httpx.Client) -> str:
    return edge.get("/metrics", headers={"X-API-Key": TEAM}).raise_for_status().text


def test_metrics_and_overrides_need_the_scope_operate(edge: httpx.Client) -> None:
    assert edge.get("/metrics").status_code == 401
    for call in (
        ("GET", "/metrics", None, {}),
        ("POST", "/v1/recommendations", {"user_id": "u"}, {"X-Variant": "champion"}),
    ):
        method, path, body, headers = call
        answer = edge.request(method, path, json=body, headers={**headers, "X-API-Key": APP})
        assert (answer.status_code, error_of(answer)) == (403, "forbidden")
        assert "scope operate" in answer.json()["detail"]
    assert "tandem_calls_total" in metrics_of(edge)
    assert error_of(edge.get("/v1/popular", headers={"X-API-Key": TEAM})) == "forbidden"


def test_a_key_is_looked_at_before_a_body_is_sent(edge: httpx.Client) -> None:
    with connection(edge) as plain:
        plain.sendall(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        plain.sendall(b"content-length: 500000\r\n\r\n[")
        assert plain.recv(100).startswith(b"HTTP/1.1 401 ")


def test_the_name_of_the_key_is_in_log_and_metrics(guarded: tuple[httpx.Client, ServiceProcess]) -> None:
    edge, engine = guarded
    edge.get("/v1/popular", headers={"X-API-Key": APP, "X-Request-Id": "namedInTheLog"})
    line = eventually_logged(engine, "namedInTheLog")
    assert (line["caller"], line["route"]) == ("app", "/v1/popular")
    metrics = metrics_of(edge)
    assert 'tandem_calls_total{caller="app",outcome="let_in"}' in metrics
    assert 'tandem_calls_total{caller="nobody",outcome="unauthorized"}' in metrics
    for key in (PAGE, APP):
        assert key not in engine.log_file.read_text()
        assert key not in metrics


def test_the_description_asks_for_the_key_where_there_are_keys(edge: httpx.Client, api: httpx.Client) -> None:
    assert edge.get("/openapi.json").json()["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    assert "securitySchemes" not in api.get("/openapi.json").json()["components"]


# --- browsers ---------------------------------------------------------------------------------------------------------


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key",
    }
    return client.options("/v1/recommendations", headers=asked)


def test_a_page_of_ours_may_call_and_read_the_answer(edge: httpx.Client) -> None:
    allowed = preflight(edge, ORIGIN)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "x-api-key" in allowed.headers["access-control-allow-headers"].lower()
    for headers in ({"X-API-Key": APP}, {}):
        answer = edge.get("/v1/popular", headers={"Origin": ORIGIN, **headers})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert {"X-Request-Id", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))


def test_a_page_of_others_may_not(edge: httpx.Client) -> None:
    refused = preflight(edge, "https://elsewhere.example")
    assert refused.status_code == 400
    answer = edge.get("/v1/popular", headers={"Origin": "https://elsewhere.example", "X-API-Key": APP})
    for each in (refused, answer):
        assert "access-control-allow-origin" not in each.headers


def test_without_origins_no_page_may(api: httpx.Client) -> None:
    assert preflight(api, ORIGIN).status_code == 405
    assert "access-control-allow-origin" not in api.get("/v1/popular", headers={"Origin": ORIGIN}).headers


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "method", "path", "status"),
    [
        ("orchestrator", "GET", "/v1/popular", 200),
        ("orchestrator", "GET", "/v1/popular?top_k=0", 422),
        ("orchestrator", "GET", "/v1/items/nobody", 404),
        ("orchestrator", "DELETE", "/v1/popular", 405),
        ("orchestrator", "GET", "/nothing", 404),
        ("orchestrator", "GET", "/healthz", 200),
        ("feature_service", "GET", "/v1/users/u/features", 200),
        ("feature_service", "GET", "/nothing", 404),
        ("ranker", "GET", "/v1/releases", 200),
        ("ranker", "GET", "/v1/rank", 405),
        ("ranker", "GET", "/nothing", 404),
        ("ranker", "GET", "/healthz", 200),
    ],
)
def test_every_answer_tells_browsers_to_do_nothing_with_it(
    stack: Stack, service: str, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, getattr(stack.settings, f"{service}_url") + path, timeout=30)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame")
    assert answer.headers["cache-control"] == "no-store"
    if status >= 400:
        assert error_of(answer)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_of_the_description_may_load_what_they_are_made_of(api: httpx.Client, page: str) -> None:
    answer = api.get(page)
    rules = [rule.split() for rule in answer.headers["content-security-policy"].split(";")]
    policy = {directive: allowed for directive, *allowed in rules}
    loaded = re.findall(r'<(script|link)([^>]*)(?:src|href)="(https://[^/"]+)/', answer.text)
    assert len(loaded) >= 2
    for tag, attributes, host in loaded:
        directive = "img-src" if "icon" in attributes else {"script": "script-src", "link": "style-src"}[tag]
        assert host in policy[directive]
    assert "'unsafe-inline'" in policy["script-src"]
    assert policy["connect-src"] == ["'self'"]


# --- malformed requests -----------------------------------------------------------------------------------------------

MALFORMED = {
    "nested lists": b"[" * 100_000,
    "nested lists that close": b"[" * 1000 + b"]" * 1000,
    "nested objects": b'{"user_id":' * 50_000,
    "nested where a text belongs": b'{"user_id": ' + b"[" * 500 + b"]" * 500 + b"}",
    "a number without end": b'{"user_id": ' + b"1" * 900_000 + b"}",
    "a long number": b'{"user_id": "u", "top_k": ' + b"9" * 4000 + b"}",
    "more than a float holds": b'{"user_id": "u", "top_k": 1e999999}',
    "not a number": b'{"user_id": "u", "top_k": NaN}',
    "infinity": b'[{"user_id": "u", "item_id": "i", "event": "view", "timestamp": Infinity}]',
    "half a surrogate pair": b'{"user_id": "\\ud800"}',
    "a surrogate in UTF-8": b'{"user_id": "\xed\xa0\x80"}',
    "no UTF-8": b'{"user_id": "\xff"}',
    "UTF-16": '{"user_id": "u"}'.encode("utf-16"),
    "a zero byte": b"\x00",
    "keys of all kinds": b"{" + b",".join(b'"field%d": 1' % number for number in range(40_000)) + b"}",
    "keys in many objects": b"[" + b",".join(b'{"a":1,"b":1,"c":1,"d":1}' for _ in range(30_000)) + b"]",
    "a long list": b"[" + b"1," * 400_000 + b"1]",
    "a long name of a field": b'{"' + b"x" * 900_000 + b'": 1}',
    "nothing": b"",
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("orchestrator", "/v1/recommendations"),
        ("orchestrator", "/v1/events"),
        ("feature_service", "/v1/events"),
        ("ranker", "/v1/rank"),
    ],
)
def test_what_makes_no_sense_is_refused(stack: Stack, service: str, path: str, case: str) -> None:
    url = getattr(stack.settings, f"{service}_url") + path
    answer = httpx.post(url, content=MALFORMED[case], headers={"content-type": "application/json"}, timeout=30)
    assert (answer.status_code, error_of(answer)) == (422, "invalid_request")
    assert len(answer.text) < 2000


def test_of_a_field_that_is_there_twice_the_last_counts(api: httpx.Client) -> None:
    answer = api.post("/v1/recommendations", content=b'{"user_id": "a", "user_id": "b"}', headers=JSON)
    assert (answer.status_code, answer.json()["user_id"]) == (200, "b")


JSON = {"content-type": "application/json"}
ODD_IDS = [
    '"\n{"event": "forged", "level": "info"}\n',
    "\r\nSET x 1\r\n",
    "zero \x00 byte",
    "line \u2028 separator",
    "\u202eright to left",
    "{braces}:recent",
    "../../etc/passwd",
    "%2e%2e%2f%00",
    "\U0010ffff\ufffe",
    "e\u0301" * 60,
    "' OR 1=1 --",
    "/features",
    "x/similar",
    "?#&=;+ ",
]


@pytest.fixture(scope="module")
def apart(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, LocalSettings]]:
    """The public API of separate services, whose Redis may store unusual ids."""
    with (
        beside(stack, tmp_path_factory.mktemp("apart")) as own,
        httpx.Client(base_url=own.orchestrator_url, timeout=30) as client,
    ):
        yield client, own


@pytest.mark.parametrize("odd", ODD_IDS, ids=range(len(ODD_IDS)))
def test_ids_of_any_characters_go_in_and_out_unchanged(apart: tuple[httpx.Client, LocalSettings], odd: str) -> None:
    api, settings = apart
    quoted = quote(odd, safe="")
    event = {"user_id": odd, "item_id": odd, "event": "view"}
    api.post("/v1/events", json=[event]).raise_for_status()
    kept = api.get(f"{settings.feature_service_url}/v1/users/{quoted}/features").json()
    assert (kept["user_id"], kept["recent_items"]) == (odd, [odd])
    body = {"user_id": odd, "session_items": [odd], "candidate_items": [odd, toy.ITEM_IDS[0]], "exclude_items": ["x"]}
    answer = api.post("/v1/recommendations", json=body).raise_for_status().json()
    assert answer["user_id"] == odd
    assert {each["item_id"] for each in answer["recommendations"]} == {odd, toy.ITEM_IDS[0]}
    api.post("/v1/recommendations", json={"user_id": odd}).raise_for_status()
    for path in (f"/v1/items/{quoted}", f"/v1/items/{quoted}/similar"):
        assert error_of(api.get(path)) == "unknown_item"
    assert api.get("/v1/items", params={"query": odd}).status_code == 200


def test_no_id_forges_a_line_of_a_log(api: httpx.Client, stack: Stack) -> None:
    odd = ODD_IDS[0]
    for engine in ("orchestrator", "feature_service"):
        log_file = stack.engines[engine].log_file
        api.post("/v1/recommendations", json={"user_id": odd, "session_items": [odd]}).raise_for_status()
        api.get("/v1/items/" + quote(odd, safe=""))
        lines = log_file.read_text().splitlines()
        assert {json.loads(line)["event"] for line in lines} & {"forged"} == set()
    users = [json.loads(line).get("user_id") for line in stack.engines["orchestrator"].log_file.open()]
    assert odd in users


def test_an_id_may_end_like_a_path(api: httpx.Client) -> None:
    odd = quote("x/similar", safe="")
    assert "'x/similar'" in api.get(f"/v1/items/{odd}").json()["detail"]
    assert "'x/similar'" in api.get(f"/v1/items/{odd}/similar").json()["detail"]
    assert "'x'" in api.get("/v1/items/x/similar").json()["detail"]


@pytest.mark.parametrize("host", [b"[", b"a b", b"[::1", b"x:y:z", b"\xff"])
def test_a_host_that_is_none_breaks_nothing(api: httpx.Client, host: bytes) -> None:
    with connection(api) as plain:
        plain.sendall(b"GET /nothing HTTP/1.1\r\nconnection: close\r\nhost: " + host + b"\r\n\r\n")
        status = int(plain.recv(100).split()[1])
    assert status in (400, 404)


@pytest.mark.parametrize(
    "path", ["/", "/v1/popular/", "/v1/items/", "/v1//popular", "//v1/popular", "/v1/popular/../x"]
)
def test_no_path_is_sent_on_to_an_address(api: httpx.Client, path: str) -> None:
    with connection(api) as plain:
        plain.sendall(f"GET {path} HTTP/1.1\r\nconnection: close\r\nhost: internal:8000\r\n\r\n".encode())
        said = b"".join(iter(lambda: plain.recv(65536), b""))
    assert said.split()[1] in (b"404", b"422")
    assert b"internal" not in said


# --- what responses reveal --------------------------------------------------------------------------------------------

INTERNALS = re.compile(
    r"\b\d{1,3}(\.\d{1,3}){3}\b|localhost|:\d{4,5}\b|Traceback|\.py\b|(?<![\w/])/(?!v1/)\w[\w.-]*/|0x[0-9a-f]{6,}"
)
"""Addresses, ports, file paths, tracebacks and Python object addresses."""


def test_with_everything_down_no_answer_tells_of_the_inside(stopped: LocalSettings) -> None:
    names = ("feature_service", "ranker_service", "orchestrator")
    services = (stopped.orchestrator_url, stopped.feature_service_url, stopped.ranker_url)
    bodies = {"/v1/encode": {"recent_items": ["a"]}, "/v1/rank": {"recent_items": ["a"], "candidate_items": ["b"]}}
    paths = ("/healthz", "/readyz", "/v1/users/u/features", "/v1/releases", "/v1/nothing", "/nothing")
    calls = [*CALLS.values(), *(("POST", path, body) for path, body in bodies.items())]
    calls += [("GET", path, None) for path in paths]
    responses: dict[str, str] = {}
    with running(stopped, *names, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"), httpx.Client(timeout=30) as client:
        eventually(lambda: "MLflow" in client.get(f"{stopped.ranker_url}/readyz").text)
        for service in services:
            for method, path, body in calls:
                answer = client.request(method, service + path, json=body)
                responses[f"{method} {service}{path} {answer.status_code}"] = answer.text + str(dict(answer.headers))
    assert any(" 503" in call for call in responses)
    assert {call: text for call, text in responses.items() if INTERNALS.search(text)} == {}


def test_with_a_qdrant_server_away_no_answer_tells_where_it_was(stack: Stack, tmp_path: Path) -> None:
    settings = local_settings(tmp_path, qdrant_url=f"http://{HOST}:{free_ports(1)[0]}")
    with (
        running(settings, "orchestrator", RANKER_URL=stack.settings.ranker_url),
        httpx.Client(base_url=settings.orchestrator_url, timeout=30) as client,
    ):
        eventually(lambda: "Qdrant" in client.get("/readyz").json()["dependencies"]["index"])
        responses = {
            path: client.get(path).text for path in ("/readyz", "/v1/items/a", "/v1/items?query=a", "/v1/popular")
        }
    assert {call: text for call, text in responses.items() if INTERNALS.search(text)} == {}


# --- rate limits; last, because they exhaust the keys -----------------------------------------------------------------


def test_who_calls_too_often_is_told_when_to_come_back(edge: httpx.Client) -> None:
    answers = [edge.get("/v1/popular", headers={"X-API-Key": PAGE}) for _ in range(RATE + 1)]
    assert answers[0].status_code == 200
    refused = answers[-1]
    assert (refused.status_code, error_of(refused)) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 7200
    assert "'page'" in refused.json()["detail"]
    assert edge.get("/v1/popular", headers={"X-API-Key": APP}).status_code == 200
    assert edge.get("/healthz").status_code == 200
    assert edge.get("/v1/popular").status_code == 401
    assert 'tandem_calls_total{caller="page",outcome="rate_limited"}' in metrics_of(edge)


def connection(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)


def eventually_logged(engine: ServiceProcess, request_id: str) -> dict[str, object]:
    found: list[dict[str, object]] = []

    def look() -> bool:
        lines = [line for line in engine.log_file.read_text().splitlines() if request_id in line]
        found.extend(json.loads(line) for line in lines)
        return bool(found)

    eventually(look, f"request {request_id} was not logged")
    return found[0]
