"""Adapters translate every failure of an upstream to a `TandemError`."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import qdrant_client.common.client_exceptions
import qdrant_client.http.exceptions
import redis.exceptions
from httpx import Headers

from local.settings import HOST, LocalSettings
from recsys.adapters import qdrant_server_collections, qdrant_server_index, redis_client, redis_keys
from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.adapters.qdrant_points import point_id
from recsys.adapters.qdrant_server_index import QdrantServerIndex
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.adapters.release_catalogue import ReleaseCatalogue
from recsys.contracts.events import Event
from recsys.contracts.recall import Retrieval
from recsys.contracts.retrieval import CatalogueItem, IndexedItem, SearchSettings
from recsys.errors import (
    InvalidRequest,
    ReleaseError,
    ReleaseNotLoaded,
    StorageFull,
    TandemError,
    UpstreamAnswerInvalid,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from recsys.model.registry import ModelRegistry
from tests.contract.conftest import redis_url
from tests.contract.stub_server import Connection, hanging_up, response, saying, server, silent
from tests.engines import free_ports, local_settings, running

EVENT = Event(user_id="u", item_id="i", event="view")
RETRIEVAL = Retrieval(1, "w", [1.0], 10, (), [])
HttpCall = Callable[[HttpPool], Awaitable[Any]]
HTTP_CALLS: dict[str, HttpCall] = {
    "user_features": lambda pool: HttpFeatureStore(pool).user_features("u"),
    "record": lambda pool: HttpFeatureStore(pool).record([EVENT], []),
    "popular": lambda pool: HttpFeatureStore(pool).popular(3),
    "encode": lambda pool: HttpRanker(pool).encode(["a"]),
    "rank": lambda pool: HttpRanker(pool).rank(["a"], ["b", "c"]),
    "releases": lambda pool: HttpRanker(pool).releases(),
    "recall": lambda pool: HttpRanker(pool).recall(RETRIEVAL),
    "catalogue": lambda pool: ReleaseCatalogue(HttpRanker(pool)).load(1, "w"),
}


def error_answer(status: str, code: str) -> bytes:
    return response(status, json.dumps({"error": code, "detail": "some detail"}).encode())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short timeouts."""
    for name in ("upstream.MAX_SECONDS", "http_clients.MAX_SECONDS", "http_clients.DOWNLOAD_SECONDS"):
        monkeypatch.setattr(f"recsys.adapters.{name}", 0.2)


@pytest.fixture(params=HTTP_CALLS)
def call(request: pytest.FixtureRequest) -> HttpCall:
    return HTTP_CALLS[request.param]


CUT_SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"
WRONG: dict[str, tuple[Connection, type[TandemError]]] = {
    "no HTTP": (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), UpstreamUnavailable),
    "hangs up": (hanging_up, UpstreamUnavailable),
    "hangs up in the middle": (saying(CUT_SHORT), UpstreamUnavailable),
    "invalid chunks": (saying(BAD_CHUNK), UpstreamUnavailable),
    "compressed unasked": (
        saying(response("200 OK", gzip.compress(b"{}"), "content-encoding: gzip")),
        UpstreamAnswerInvalid,
    ),
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
    "its own upstream is unavailable": (saying(error_answer("503 Busy", "upstream_unavailable")), UpstreamUnavailable),
    "its own upstream is slow": (saying(error_answer("504 Slow", "upstream_timeout")), UpstreamTimeout),
    "no release": (saying(error_answer("503 Busy", "release_not_loaded")), ReleaseNotLoaded),
    "our token is wrong": (saying(error_answer("401 No", "unauthorized")), UpstreamUnavailable),
    "our request is invalid": (saying(error_answer("422 No", "invalid_request")), InvalidRequest),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("wrong", WRONG)
async def test_failures_of_an_http_upstream_are_translated(call: HttpCall, wrong: Any) -> None:
    connected, expected = WRONG[wrong]
    async with server(connected) as url, HttpPool(url) as pool:
        with pytest.raises(expected):
            await call(pool)


async def test_the_details_of_an_upstreams_error_are_kept(call: HttpCall) -> None:
    async with server(saying(error_answer("503 Busy", "release_not_loaded"))) as url, HttpPool(url) as pool:
        with pytest.raises(ReleaseNotLoaded, match="some detail"):
            await call(pool)


async def test_a_closed_port_is_an_unavailable_upstream(call: HttpCall) -> None:
    async with HttpPool(f"http://{HOST}:{free_ports(1)[0]}") as pool:
        with pytest.raises(UpstreamUnavailable):
            await call(pool)


async def test_a_call_is_retried_once_after_a_closed_connection() -> None:
    content = b'{"champion": 5, "loaded": [5], "vocabulary_hash": "abc"}'
    responses = iter([hanging_up, saying(response("200 OK", content))])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(responses)(reader, writer)

    async with server(connected) as url, HttpPool(url) as pool:
        assert (await HttpRanker(pool).releases()).champion == 5


async def test_a_response_without_one_score_per_candidate_is_invalid() -> None:
    short = saying(response("200 OK", b'{"release": 1, "weights": "", "personalized": true, "scores": [1.0]}'))
    async with server(short) as url, HttpPool(url) as pool:
        with pytest.raises(UpstreamAnswerInvalid, match="1 scores for 2"):
            await HttpRanker(pool).rank(["a"], ["b", "c"])


# --- no error is missing ----------------------------------------------------------------------------------------------


def with_subclasses(cls: type[Exception]) -> list[type[Exception]]:
    found = [cls]
    for each in cls.__subclasses__():
        found += with_subclasses(each)
    return list(dict.fromkeys(found))


def made(cls: type[Exception]) -> Exception:
    """An instance that needs no constructor arguments."""
    return type(cls.__name__, (cls,), {"__init__": lambda _: None, "__str__": lambda _: "something broke"})()


class Raises:
    """A stub pool whose requests all raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def request(self, *_: object, **__: object) -> Any:
        raise self._error


@pytest.mark.parametrize("cls", with_subclasses(OSError), ids=lambda cls: cls.__name__)
async def test_every_error_of_a_connection_is_translated(cls: type[Exception]) -> None:
    with pytest.raises(UpstreamTimeout if issubclass(cls, TimeoutError) else UpstreamUnavailable):
        await HttpRanker(Raises(made(cls))).releases()


@pytest.mark.parametrize("cls", with_subclasses(redis.exceptions.RedisError), ids=lambda cls: cls.__name__)
def test_every_error_of_redis_is_translated(cls: type[Exception]) -> None:
    translations = {redis.exceptions.TimeoutError: UpstreamTimeout, redis.exceptions.OutOfMemoryError: StorageFull}
    expected = next((each for base, each in translations.items() if issubclass(cls, base)), UpstreamUnavailable)
    with pytest.raises(expected), redis_client.translated_errors():
        raise made(cls)


@pytest.mark.parametrize("cls", [TimeoutError, asyncio.TimeoutError, ConnectionResetError, BrokenPipeError, OSError])
def test_errors_of_the_socket_are_translated_for_redis(cls: type[Exception]) -> None:
    with pytest.raises(UpstreamError), redis_client.translated_errors():
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
def test_every_error_of_the_qdrant_client_is_translated(error: Any) -> None:
    with pytest.raises(UpstreamUnavailable), qdrant_server_collections.translated_errors(1):
        raise error


def test_the_list_of_qdrant_client_errors_is_complete() -> None:
    known = {type(error) for error in qdrant_errors()}
    roots = (qdrant_client.http.exceptions.ApiException, qdrant_client.common.client_exceptions.QdrantException)
    assert {cls for root in roots for cls in with_subclasses(root)} == known


@pytest.mark.parametrize("bug", [TypeError, KeyError, AttributeError])
def test_bugs_are_not_translated(bug: Any) -> None:
    with pytest.raises(bug), redis_client.translated_errors():
        raise bug
    with pytest.raises(bug), qdrant_server_collections.translated_errors(1):
        raise bug


# --- Redis ------------------------------------------------------------------------------------------------------------

STORE_CALLS = {
    "user_features": lambda store: store.user_features("u"),
    "record": lambda store: store.record([EVENT], []),
    "popular": lambda store: store.popular(3),
}


@pytest.fixture(scope="module")
def redis_that_stopped(tmp_path_factory: pytest.TempPathFactory) -> LocalSettings:
    settings = local_settings(tmp_path_factory.mktemp("stopped"))
    with running(settings, "redis"):
        pass
    return settings


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_stopped_redis_is_unavailable(redis_that_stopped: LocalSettings, ask: Callable[..., Any]) -> None:
    redis = open_redis(redis_url(redis_that_stopped))
    with pytest.raises(UpstreamUnavailable):
        await ask(RedisFeatureStore(redis))
    await redis.aclose()


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_redis_that_stops_is_unavailable_until_it_restarts(tmp_path: Path, ask: Callable[..., Any]) -> None:
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
async def test_a_redis_that_never_responds_times_out(ask: Callable[..., Any]) -> None:
    async with server(silent) as url:
        redis = open_redis(url.replace("http", "redis"))
        redis.connection_pool.connection_kwargs["socket_timeout"] = 0.1
        with pytest.raises(UpstreamTimeout):
            await ask(RedisFeatureStore(redis))
        await redis.aclose()


@pytest.mark.parametrize("ask", STORE_CALLS.values(), ids=list(STORE_CALLS))
async def test_a_server_without_the_redis_protocol_is_unavailable(ask: Callable[..., Any]) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with server(garbage) as url:
        redis = open_redis(url.replace("http", "redis"))
        with pytest.raises(UpstreamError):
            await ask(RedisFeatureStore(redis))
        await redis.aclose()


async def test_a_key_of_the_wrong_type_is_a_rejected_command(feature_engines: LocalSettings) -> None:
    redis = open_redis(redis_url(feature_engines))
    await redis.flushall()
    await redis.set(redis_keys.recent_key("u"), "not a sorted set")
    for ask in (STORE_CALLS["user_features"], STORE_CALLS["record"]):
        with pytest.raises(UpstreamUnavailable, match="WRONGTYPE"):
            await ask(RedisFeatureStore(redis))
    await redis.flushall()
    await redis.aclose()


# --- Qdrant -----------------------------------------------------------------------------------------------------------

EXACT = SearchSettings(hnsw_ef=None)
INDEX_CALLS = {
    "open": lambda index: index.open(1, ["a"], EXACT),
    "search": lambda index: index.search(1, [0.0], 3, ["a"]),
    "similar": lambda index: index.similar(1, "a", 3),
    "find_by_title": lambda index: index.find_by_title(1, "a", 3),
    "status": lambda index: index.status(1),
}
JOB_CALLS = {
    "holds": lambda index: index.holds(1, "w", 1),
    "collections": lambda index: index.collections(),
    "drop": lambda index: index.drop(1),
    "build": lambda index: index.build(
        1, embedding_dim=1, num_items=1, num_vectors=1, weights_hash="w", graph=None, batches=[[INDEXED]]
    ),
}
INDEXED = IndexedItem(CatalogueItem("a", "A", {}), [1.0])


@asynccontextmanager
async def qdrant_at(url: str) -> AsyncIterator[QdrantServerIndex]:
    """An index with a collection that was opened before the failure."""
    index = QdrantServerIndex(url)
    await index._opened.open(1, ["a"], "w", EXACT)
    yield index
    await index.close()


@pytest.mark.parametrize("ask", {**INDEX_CALLS, **JOB_CALLS}.values(), ids=[*INDEX_CALLS, *JOB_CALLS])
async def test_a_qdrant_server_with_a_closed_port_is_unavailable(ask: Callable[..., Any]) -> None:
    async with qdrant_at(f"http://{HOST}:{free_ports(1)[0]}") as index:
        with pytest.raises(UpstreamUnavailable):
            await ask(index)


QDRANT_WRONG: dict[str, tuple[Connection, type[TandemError]]] = {
    "hangs up": (hanging_up, UpstreamUnavailable),
    "garbage": (saying(b"garbage\r\n\r\n"), UpstreamUnavailable),
    "500": (saying(response("500 Oops", b"<html>")), UpstreamUnavailable),
    "429": (saying(response("429 Slow down", b"{}", "retry-after: 3")), UpstreamUnavailable),
    "429 odd": (saying(response("429 Slow down", b"{}", "retry-after: tomorrow")), UpstreamUnavailable),
    "401": (saying(response("401 Who?", b"{}")), UpstreamUnavailable),
    "404": (saying(response("404 Not Found", b"{}")), ReleaseNotLoaded),
    "no JSON": (saying(response("200 OK", b"no JSON")), UpstreamAnswerInvalid),
    "no UTF-8": (
        saying(response("200 OK", b'{"result": {"points": [{"id": "\xff"}], "status": "\xff"}}')),
        UpstreamError,
    ),
    "deep": (saying(response("200 OK", b'{"other": ' + b"[" * 100_000)), UpstreamAnswerInvalid),
    "another shape": (saying(response("200 OK", b'{"result": 5}')), UpstreamAnswerInvalid),
    "nothing": (saying(response("200 OK", b'{"result": null, "status": "ok", "time": 0}')), UpstreamAnswerInvalid),
}


@pytest.mark.parametrize("wrong", QDRANT_WRONG)
@pytest.mark.parametrize("ask", INDEX_CALLS.values(), ids=list(INDEX_CALLS))
async def test_failures_of_a_qdrant_server_are_translated(ask: Callable[..., Any], wrong: Any) -> None:
    connected, expected = QDRANT_WRONG[wrong]
    async with server(connected) as url, qdrant_at(url) as index:
        with pytest.raises(expected):
            await ask(index)


@pytest.mark.parametrize("ask", JOB_CALLS.values(), ids=list(JOB_CALLS))
@pytest.mark.parametrize("wrong", ["hangs up", "garbage", "500", "429", "429 odd", "401", "no JSON", "nothing"])
async def test_failures_of_a_qdrant_server_are_translated_for_jobs(ask: Callable[..., Any], wrong: str) -> None:
    async with server(QDRANT_WRONG[wrong][0]) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamError):
            await ask(index)


def found(*points: dict[str, Any]) -> Connection:
    return saying(response("200 OK", json.dumps({"result": {"points": points}, "status": "ok", "time": 0}).encode()))


@pytest.mark.parametrize(
    "point",
    [
        {"id": point_id("unknown"), "score": 0.5},
        {"id": "7b7a1b1e-9d1f-4f0b-8a52-0d7ac0d8a9b1", "score": 0.5},
        {"id": -1, "score": 0.5},
        {"id": 2**63, "score": 0.5},
        {"id": 1.5, "score": 0.5},
        {"id": None, "score": 0.5},
        {"id": point_id("a"), "score": None},
        {"id": point_id("a")},
        {"score": 0.5},
    ],
)
async def test_invalid_points_are_an_error(point: Any) -> None:
    async with server(found(point)) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamAnswerInvalid):
            await index.search(1, [0.0], 3)


async def test_points_are_returned_as_items() -> None:
    async with server(found({"id": point_id("a"), "version": 0, "score": 0.5})) as url, qdrant_at(url) as index:
        assert await index.search(1, [0.0], 3) == [("a", 0.5, "w")]


@pytest.mark.parametrize("payload", [None, {}, {"weights": None}, {"weights": 7}, []])
async def test_a_collection_without_weights_is_not_opened(payload: dict[str, None] | dict[str, int] | None) -> None:
    async with server(found({"id": 1, "payload": payload})) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamAnswerInvalid):
            await index.open(1, ["a"], EXACT)


async def test_an_empty_collection_is_not_opened() -> None:
    async with server(found()) as url, qdrant_at(url) as index:
        with pytest.raises(ReleaseNotLoaded):
            await index.open(1, ["a"], EXACT)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ask", INDEX_CALLS.values(), ids=list(INDEX_CALLS))
async def test_a_qdrant_server_that_never_responds_times_out(ask: Callable[..., Any]) -> None:
    async with server(silent) as url, qdrant_at(url) as index:
        with pytest.raises(UpstreamTimeout):
            await ask(index)


@pytest.mark.parametrize(
    ("settings", "params"),
    [
        (EXACT, {"exact": True}),
        (SearchSettings(hnsw_ef=400), {"hnsw_ef": 400, "quantization": {"ignore": True}}),
        (SearchSettings(hnsw_ef=1), {"hnsw_ef": 3, "quantization": {"ignore": True}}),
        (
            SearchSettings(hnsw_ef=64, oversampling=2.0),
            {"hnsw_ef": 64, "quantization": {"rescore": True, "oversampling": 2.0}},
        ),
    ],
)
async def test_a_search_request_follows_its_settings_and_asks_for_ids_uncompressed(
    settings: SearchSettings,
    params: dict[str, bool] | dict[str, dict[str, bool | float] | int] | dict[str, dict[str, bool] | int],
) -> None:
    asked: list[bytes] = []

    async def recording(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        length = re.search(rb"content-length: (\d+)", asked[0].lower())
        assert length is not None
        asked.append(await reader.readexactly(int(length[1])))
        writer.write(response("200 OK", b'{"result": {"points": []}}'))
        await writer.drain()
        writer.close()

    async with server(recording) as url, qdrant_at(url) as index:
        assert await index.search(1, [0.5], 3, ["a"], settings) == []
    head, body = asked
    assert head.startswith(b"POST /collections/items_v1/points/query ")
    assert b"accept-encoding" not in head.lower()
    assert json.loads(body) == {
        "query": [0.5],
        "limit": 3,
        "with_payload": False,
        "params": params,
        "filter": {"must_not": [{"has_id": [point_id("a")]}]},
    }


async def test_requests_include_the_path_prefix_and_the_api_key() -> None:
    asked: list[bytes] = []

    async def recording(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response("200 OK", b'{"result": {"status": "green", "points_count": 7}}'))
        await writer.drain()
        writer.close()

    async with server(recording) as url:
        index = QdrantServerIndex(f"{url}/behind/a/proxy", "secret")
        await index._opened.open(1, ["a"], "w", EXACT)
        assert await index.status(1) == (7, 0, False)
        await index.close()
    assert asked[0].startswith(b"GET /behind/a/proxy/collections/items_v1 ")
    assert b"api-key: secret" in asked[0].lower()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://qdrant", "http://qdrant:6333/"),
        ("https://cloud.example/", "https://cloud.example:6333/"),
        ("https://cloud.example:443", "https://cloud.example:443/"),
        ("http://[::1]:7000/prefix/", "http://[::1]:7000/prefix/"),
    ],
)
def test_a_url_without_a_port_gets_qdrants_default_port(url: str, expected: str) -> None:
    assert qdrant_server_index._base_url(url) in (expected, expected.replace(":443", ""))


# --- Qdrant Edge ------------------------------------------------------------------------------------------------------


class BrokenShard:
    """A stub shard whose calls all raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def fail(self, *_: object, **__: object) -> Any:
        raise self._error

    search = retrieve = scroll = info = fail

    def close(self) -> None:
        """Does nothing."""


@asynccontextmanager
async def edge_in(directory: Path) -> AsyncIterator[QdrantEdgeIndex]:
    index = QdrantEdgeIndex(directory)
    await index.build(1, embedding_dim=1, num_items=1, num_vectors=1, weights_hash="w", graph=None, batches=[[INDEXED]])
    await index.open(1, ["a"], EXACT)
    yield index
    await index.close()


@pytest.mark.parametrize("error", [Exception("bare"), TypeError("no enum"), OverflowError("too big"), ValueError("x")])
@pytest.mark.parametrize("ask", ["search", "similar", "find_by_title", "status"])
async def test_every_error_of_qdrant_edge_is_translated(tmp_path: Path, ask: str, error: Any) -> None:
    async with edge_in(tmp_path) as index:
        index._shards.pop(1).close()
        index._shards[1] = BrokenShard(error)
        with pytest.raises(UpstreamUnavailable, match="items_v1") as raised:
            await INDEX_CALLS[ask](index)
        assert raised.value.__cause__ is error


async def test_an_invalid_query_of_qdrant_edge_is_translated(tmp_path: Path) -> None:
    async with edge_in(tmp_path) as index:
        for query in ([0.0] * 7, ["no number"], []):
            with pytest.raises(UpstreamUnavailable):
                await index.search(1, query, 3)
        with pytest.raises(UpstreamUnavailable):
            await index.search(1, [0.0], -1)


async def test_a_vector_of_another_kind_is_an_error(tmp_path: Path) -> None:
    class SparseShard(BrokenShard):
        def retrieve(self, *_: object, **__: object) -> list[Any]:
            return [SimpleNamespace(vector={"sparse": [1.0]})]

    async with edge_in(tmp_path) as index:
        index._shards.pop(1).close()
        index._shards[1] = SparseShard(Exception())
        with pytest.raises(UpstreamAnswerInvalid, match="dict"):
            await index.similar(1, "a", 3)


async def test_an_unknown_point_of_qdrant_edge_is_an_error(tmp_path: Path) -> None:
    async with edge_in(tmp_path) as index:
        await index._opened.open(1, ["another"], "other weights", EXACT)
        for asked in (index.search(1, [0.0], 3), index.find_by_title(1, "a", 3)):
            with pytest.raises(UpstreamAnswerInvalid):
                await asked


async def test_a_damaged_edge_collection_is_not_opened(tmp_path: Path) -> None:
    damaged = tmp_path / "items_v1"
    damaged.mkdir()
    (damaged / "weights").write_text("w")
    with pytest.raises(UpstreamUnavailable):
        await QdrantEdgeIndex(tmp_path).open(1, ["a"], EXACT)


async def test_an_edge_collection_that_another_process_has_open_is_not_opened(tmp_path: Path) -> None:
    async with edge_in(tmp_path):
        with pytest.raises(UpstreamUnavailable):
            await QdrantEdgeIndex(tmp_path).open(1, ["a"], EXACT)


async def test_an_invalid_batch_fails_a_build_of_qdrant_edge(tmp_path: Path) -> None:
    index = QdrantEdgeIndex(tmp_path)
    wrong = INDEXED._replace(embedding=[1.0, 2.0])
    with pytest.raises(UpstreamUnavailable):
        await index.build(
            1, embedding_dim=1, num_items=1, num_vectors=1, weights_hash="w", graph=None, batches=[[wrong]]
        )
    assert not await index.holds(1, "w", 1)


# --- MLflow -----------------------------------------------------------------------------------------------------------


def test_an_mlflow_with_a_closed_port_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = ModelRegistry(f"http://{HOST}:{free_ports(1)[0]}")
    for ask in (
        lambda: registry.version_of("x", {}),
        registry.aliases,
        lambda: registry.set_alias("champion", 1),
        lambda: registry.set_tag(1, "key", "value"),
        lambda: registry.fetch(1, tmp_path),
    ):
        with pytest.raises(UpstreamUnavailable, match="MLflow"):
            ask()
