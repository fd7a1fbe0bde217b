"""Whatever an upstream does wrong comes out of its adapter as an error of ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import qdrant_client.common.client_exceptions
import qdrant_client.http.exceptions
import redis.exceptions
from httpx import Headers
from qdrant_client import AsyncQdrantClient

from local.settings import HOST, LocalSettings
from recsys.adapters import qdrant_candidate_index, redis_feature_store
from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker, open_session
from recsys.adapters.qdrant_candidate_index import QdrantCandidateIndex
from recsys.adapters.redis_feature_store import RedisFeatureStore, open_redis
from recsys.contracts.events import Event
from recsys.errors import (
    InvalidRequest,
    ReleaseError,
    ReleaseNotLoaded,
    TandemError,
    UpstreamAnswerInvalid,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from recsys.model.registry import ModelRegistry
from tests.contract.conftest import redis_url
from tests.engines import free_ports, local_settings, running

EVENT = Event(user_id="u", item_id="i", event="view")
Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HttpCall = Callable[[aiohttp.ClientSession], Awaitable[Any]]
HTTP_CALLS: dict[str, HttpCall] = {
    "user_features": lambda session: HttpFeatureStore(session).user_features("u"),
    "record": lambda session: HttpFeatureStore(session).record([EVENT]),
    "popular": lambda session: HttpFeatureStore(session).popular(3),
    "encode": lambda session: HttpRanker(session).encode(["a"]),
    "rank": lambda session: HttpRanker(session).rank(["a"], ["b", "c"]),
    "releases": lambda session: HttpRanker(session).releases(),
}


def response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def error_answer(status: str, code: str) -> bytes:
    return response(status, json.dumps({"error": code, "detail": "told so"}).encode())


def saying(answer: bytes) -> Connection:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return connected


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and never answers."""
    while await reader.read(1000):
        pass
    writer.close()


async def hanging_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@asynccontextmanager
async def server(connected: Connection) -> AsyncIterator[str]:
    listening = await asyncio.start_server(connected, HOST, 0)
    async with listening:
        yield f"http://{HOST}:{listening.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def hurried_session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Like the product's own, but with less patience."""
    async with open_session(url) as session:
        session._timeout = aiohttp.ClientTimeout(total=0.2)
        yield session


@pytest.fixture(params=HTTP_CALLS)
def call(request: pytest.FixtureRequest) -> HttpCall:
    return HTTP_CALLS[request.param]


CUT_SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"
WRONG: dict[str, tuple[Connection, type[TandemError]]] = {
    "no HTTP": (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), UpstreamUnavailable),
    "hangs up": (hanging_up, UpstreamUnavailable),
    "hangs up in the middle": (saying(CUT_SHORT), UpstreamUnavailable),
    "chunks that are none": (saying(BAD_CHUNK), UpstreamUnavailable),
    "no gzip": (saying(response("200 OK", b"no gzip", "content-encoding: gzip")), UpstreamUnavailable),
    "redirects to nowhere": (saying(response("302 Found", b"", "location: http://[")), UpstreamUnavailable),
    "redirects in circles": (saying(response("302 Found", b"", "location: /")), UpstreamUnavailable),
    "never answers": (silent, UpstreamTimeout),
    "500 of a proxy": (saying(response("502 Bad Gateway", b"<html>")), UpstreamUnavailable),
    "500 without a body": (saying(response("500 Internal Server Error", b"")), UpstreamUnavailable),
    "204": (saying(response("204 No Content", b"")), UpstreamUnavailable),
    "404 of another server": (saying(response("404 Not Found", b'{"detail":"Not Found"}')), UpstreamUnavailable),
    "empty": (saying(response("200 OK", b"")), UpstreamAnswerInvalid),
    "no JSON": (saying(response("200 OK", b"<html>")), UpstreamAnswerInvalid),
    "no UTF-8": (saying(response("200 OK", b"\xff\xfe")), UpstreamAnswerInvalid),
    "null": (saying(response("200 OK", b"null")), UpstreamAnswerInvalid),
    "another shape": (saying(response("200 OK", b'{"surprise": 1}')), UpstreamAnswerInvalid),
    "an unexpected error of ours": (saying(error_answer("500 Oops", "internal_error")), UpstreamUnavailable),
    "a damaged release": (saying(error_answer("500 Oops", "release_damaged")), ReleaseError),
    "an unknown path of ours": (saying(error_answer("404 Not Found", "not_found")), UpstreamUnavailable),
    "a code of a newer version": (saying(error_answer("503 Busy", "from_the_future")), UpstreamUnavailable),
    "its own upstream is away": (saying(error_answer("503 Busy", "upstream_unavailable")), UpstreamUnavailable),
    "its own upstream is slow": (saying(error_answer("504 Slow", "upstream_timeout")), UpstreamTimeout),
    "no release": (saying(error_answer("503 Busy", "release_not_loaded")), ReleaseNotLoaded),
    "our request is at fault": (saying(error_answer("422 No", "invalid_request")), InvalidRequest),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_an_http_upstream_does_wrong_is_translated(call, wrong):
    connected, expected = WRONG[wrong]
    async with server(connected) as url, hurried_session(url) as session:
        with pytest.raises(expected):
            await call(session)


async def test_what_an_upstream_told_is_passed_on(call):
    async with server(saying(error_answer("503 Busy", "release_not_loaded"))) as url, hurried_session(url) as session:
        with pytest.raises(ReleaseNotLoaded, match="told so"):
            await call(session)


async def test_a_closed_port_is_an_upstream_that_is_away(call):
    async with hurried_session(f"http://{HOST}:{free_ports(1)[0]}") as session:
        with pytest.raises(UpstreamUnavailable):
            await call(session)


async def test_a_call_whose_connection_was_hung_up_is_sent_once_more():
    told = b'{"champion": 5, "loaded": [5], "vocabulary_hash": "abc"}'
    answers = iter([hanging_up, saying(response("200 OK", told))])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(answers)(reader, writer)

    async with server(connected) as url, hurried_session(url) as session:
        assert (await HttpRanker(session).releases()).champion == 5


async def test_scores_that_are_not_one_per_candidate_are_refused():
    short = saying(response("200 OK", b'{"release": 1, "weights": "", "personalized": true, "scores": [1.0]}'))
    async with server(short) as url, hurried_session(url) as session:
        with pytest.raises(UpstreamAnswerInvalid, match="1 scores for 2"):
            await HttpRanker(session).rank(["a"], ["b", "c"])


# --- the maps are complete --------------------------------------------------------------------------------------------


def with_subclasses(cls: type[Exception]) -> list[type[Exception]]:
    found = [cls]
    for each in cls.__subclasses__():
        found += with_subclasses(each)
    return list(dict.fromkeys(found))


def made(cls: type[Exception]) -> Exception:
    """An instance without all that its constructor asks for."""
    return type(cls.__name__, (cls,), {"__init__": lambda _: None, "__str__": lambda _: "something broke"})()


class Raises:
    """Stands where a session would: every request raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def request(self, *_: object, **__: object) -> Any:
        raise self._error


@pytest.mark.parametrize("cls", with_subclasses(aiohttp.ClientError), ids=lambda cls: cls.__name__)
async def test_every_client_error_of_aiohttp_is_translated(cls):
    with pytest.raises(UpstreamTimeout if issubclass(cls, TimeoutError) else UpstreamUnavailable):
        await HttpRanker(Raises(made(cls))).releases()


@pytest.mark.parametrize("cls", with_subclasses(redis.exceptions.RedisError), ids=lambda cls: cls.__name__)
def test_every_error_of_redis_is_translated(cls):
    expected = UpstreamTimeout if issubclass(cls, redis.exceptions.TimeoutError) else UpstreamUnavailable
    with pytest.raises(expected), redis_feature_store._translated_errors():
        raise made(cls)


@pytest.mark.parametrize("cls", [TimeoutError, asyncio.TimeoutError, ConnectionResetError, BrokenPipeError, OSError])
def test_errors_of_the_socket_are_translated_for_redis(cls):
    with pytest.raises(UpstreamError), redis_feature_store._translated_errors():
        raise cls


def qdrant_errors() -> list[Exception]:
    unexpected = qdrant_client.http.exceptions.UnexpectedResponse
    handling = qdrant_client.http.exceptions.ResponseHandlingException
    exhausted = qdrant_client.common.client_exceptions.ResourceExhaustedResponse
    return [
        *(unexpected(status, "", b"", Headers()) for status in (400, 401, 403, 409, 422, 429, 500, 502, 503)),
        handling(OSError("refused")),
        handling(RuntimeError("anything")),
        exhausted("too many requests", 3),
        qdrant_client.common.client_exceptions.QdrantException("Retry-After is no number"),
        qdrant_client.http.exceptions.ApiException("anything"),
    ]


@pytest.mark.parametrize("error", qdrant_errors(), ids=lambda error: f"{type(error).__name__} {error}"[:60])
def test_every_error_of_the_qdrant_client_is_translated(error):
    with pytest.raises(UpstreamUnavailable), qdrant_candidate_index._translated_errors(1):
        raise error


def test_the_qdrant_client_has_no_errors_that_this_test_does_not_know():
    known = {type(error) for error in qdrant_errors()}
    roots = (qdrant_client.http.exceptions.ApiException, qdrant_client.common.client_exceptions.QdrantException)
    assert {cls for root in roots for cls in with_subclasses(root)} == known


@pytest.mark.parametrize("mistake", [TypeError, KeyError, AttributeError])
def test_programmers_mistakes_are_not_translated(mistake):
    with pytest.raises(mistake), redis_feature_store._translated_errors():
        raise mistake
    with pytest.raises(mistake), qdrant_candidate_index._translated_errors(1):
        raise mistake


# --- Redis ------------------------------------------------------------------------------------------------------------

STORE_CALLS = {
    "user_features": lambda store: store.user_features("u"),
    "record": lambda store: store.record([EVENT]),
    "popular": lambda store: store.popular(3),
}


@pytest.fixture(scope="module")
def redis_that_stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    settings = local_settings(tmp_path_factory.mktemp("stopped"))
    with running(settings, "redis"):
        pass
    return settings


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_redis_that_was_stopped_is_away(redis_that_stopped, ask):
    redis = open_redis(redis_url(redis_that_stopped))
    with pytest.raises(UpstreamUnavailable):
        await ask(RedisFeatureStore(redis))
    await redis.aclose()


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_redis_that_stops_in_between_is_away_and_is_found_again(tmp_path, ask):
    settings = local_settings(tmp_path)
    redis = open_redis(redis_url(settings))
    store = RedisFeatureStore(redis)
    with running(settings, "redis"):
        await ask(store)
    with pytest.raises(UpstreamUnavailable):
        await ask(store)
    with running(settings, "redis"):
        await ask(store)
        assert (await store.user_features("u")).known == (ask is STORE_CALLS["record"])
    await redis.aclose()


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_redis_that_never_answers_is_too_slow(ask):
    async with server(silent) as url:
        redis = open_redis(url.replace("http", "redis"))
        redis.connection_pool.connection_kwargs["socket_timeout"] = 0.1
        with pytest.raises(UpstreamTimeout):
            await ask(RedisFeatureStore(redis))
        await redis.aclose()


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_what_speaks_no_redis_is_away(ask):
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with server(garbage) as url:
        redis = open_redis(url.replace("http", "redis"))
        with pytest.raises(UpstreamError):
            await ask(RedisFeatureStore(redis))
        await redis.aclose()


async def test_a_key_of_the_wrong_kind_is_a_redis_that_refuses(feature_engines):
    redis = open_redis(redis_url(feature_engines))
    await redis.flushall()
    await redis.set(redis_feature_store.recent_key("u"), "not a sorted set")
    for ask in (STORE_CALLS["user_features"], STORE_CALLS["record"]):
        with pytest.raises(UpstreamUnavailable, match="WRONGTYPE"):
            await ask(RedisFeatureStore(redis))
    await redis.flushall()
    await redis.aclose()


# --- Qdrant -----------------------------------------------------------------------------------------------------------

INDEX_CALLS = {
    "open": lambda index: index.open(1),
    "search": lambda index: index.search(1, [0.0], 3, ["a"]),
    "similar": lambda index: index.similar(1, "a", 3),
    "items": lambda index: index.items(1, ["a"]),
    "find_by_title": lambda index: index.find_by_title(1, "a", 3),
}


@asynccontextmanager
async def qdrant_at(url: str) -> AsyncIterator[QdrantCandidateIndex]:
    index = QdrantCandidateIndex(AsyncQdrantClient(url, check_compatibility=False, timeout=1))
    yield index
    await index.close()


@pytest.mark.parametrize("ask", INDEX_CALLS.values(), ids=list(INDEX_CALLS))
async def test_a_qdrant_server_whose_port_is_closed_is_away(ask):
    async with qdrant_at(f"http://{HOST}:{free_ports(1)[0]}") as index:
        with pytest.raises(UpstreamUnavailable):
            await ask(index)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (hanging_up, UpstreamUnavailable),
        (saying(b"garbage\r\n\r\n"), UpstreamUnavailable),
        (saying(response("500 Oops", b"<html>")), UpstreamUnavailable),
        (saying(response("429 Slow down", b"{}", "retry-after: 3")), UpstreamUnavailable),
        (saying(response("429 Slow down", b"{}", "retry-after: tomorrow")), UpstreamUnavailable),
        (saying(response("401 Who?", b"{}")), UpstreamUnavailable),
        (saying(response("200 OK", b"no JSON")), UpstreamError),
        (saying(response("200 OK", b'{"result": 5}')), UpstreamError),
        (saying(response("200 OK", b'{"result": null, "status": "ok", "time": 0}')), UpstreamAnswerInvalid),
    ],
    ids=["hangs up", "garbage", "500", "429", "429 odd", "401", "no JSON", "another shape", "nothing"],
)
@pytest.mark.parametrize("ask", INDEX_CALLS.values(), ids=list(INDEX_CALLS))
async def test_what_a_qdrant_server_does_wrong_is_translated(ask, wrong, expected):
    async with server(wrong) as url, qdrant_at(url) as index:
        with pytest.raises(expected):
            await ask(index)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"item_id": 7, "title": "t", "metadata": {}, "weights": "w"},
        {"item_id": "i", "metadata": {}, "weights": "w"},
        {"item_id": "i", "title": "t", "metadata": [], "weights": "w"},
        {"item_id": "i", "title": "t", "metadata": {}},
    ],
)
async def test_points_that_describe_no_item_are_no_answer(payload):
    point = {"id": 1, "version": 0, "score": 0.5, "payload": payload}
    body = json.dumps({"result": {"points": [point]}, "status": "ok", "time": 0}).encode()
    async with server(saying(response("200 OK", body))) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamAnswerInvalid):
            await index.search(1, [0.0], 3)


async def test_a_qdrant_server_that_never_answers_is_too_slow():
    async with server(silent) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamTimeout):
            await index.search(1, [0.0], 3)


# --- MLflow -----------------------------------------------------------------------------------------------------------


def test_an_mlflow_whose_port_is_closed_is_away(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = ModelRegistry(f"http://{HOST}:{free_ports(1)[0]}")
    for ask in (
        lambda: registry.version_of("x"),
        registry.aliases,
        lambda: registry.point("champion", 1),
        lambda: registry.note(1, "key", "value"),
        lambda: registry.fetch(1, tmp_path),
    ):
        with pytest.raises(UpstreamUnavailable, match="MLflow"):
            ask()
