"""The ports over HTTP: what the orchestrator holds in place of a feature store and a ranker.

Every call here may be repeated without harm (events carry their ids), so one that loses its connection is sent
once more. Each says how much time is left for it. aiohttp, because it costs a fraction of httpx per call when many are
under way.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, TypeAdapter, ValidationError
from yarl import URL

from recsys.adapters.upstream import MAX_SECONDS, Upstream
from recsys.contracts.base import ErrorResponse
from recsys.contracts.events import Event, EventsRecorded
from recsys.contracts.features import PopularItem, PopularItems, UserFeatures
from recsys.contracts.ranking import RankedScores, RankRequest
from recsys.contracts.recall import RecallMeasurement, RecallRequest, Retrieval
from recsys.contracts.retrieval import EncodeRequest, QueryEmbedding, ServingReleases
from recsys.deadline import DEADLINE_HEADER, RESERVE_SECONDS, current_deadline
from recsys.errors import (
    Overloaded,
    ReleaseError,
    UpstreamAnswerInvalid,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
    error_for,
)

A = TypeVar("A", bound=BaseModel)

CONNECT_SECONDS = 0.5
POOL_SIZE = 256
KEEP_ALIVE_SECONDS = 4.0
"""Below the 5 s after which servers hang up on idle connections, so that none is used as it closes."""
DOWNLOAD_SECONDS = 300.0
OK = 200
SERVER_ERROR = 500
EVENTS = TypeAdapter(Sequence[Event])


def open_session(base_url: str, headers: Mapping[str, str] = MappingProxyType({})) -> aiohttp.ClientSession:
    """One pool of connections to one upstream. Call it inside a running event loop, close it after use."""
    return aiohttp.ClientSession(
        base_url,
        timeout=aiohttp.ClientTimeout(total=MAX_SECONDS, sock_connect=CONNECT_SECONDS),
        connector=aiohttp.TCPConnector(limit=POOL_SIZE, keepalive_timeout=KEEP_ALIVE_SECONDS),
        headers={"content-type": "application/json", **headers},
    )


async def exchange(
    session: aiohttp.ClientSession,
    upstream: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, bytes]:
    """Status and content; sent again if a pooled connection was closed. Every foreign error is translated."""
    url = URL(path, encoded=True)
    with translated_errors(upstream):
        try:
            return await _exchange_once(session, method, url, body, headers)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await _exchange_once(session, method, url, body, headers)


async def _exchange_once(
    session: aiohttp.ClientSession, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    async with session.request(method, url, data=body, headers=headers) as response:
        return response.status, await response.read()


@contextmanager
def translated_errors(upstream: str) -> Iterator[None]:
    """The client's texts hold addresses, which stay in here."""
    try:
        yield
    except TimeoutError as error:
        raise UpstreamTimeout(f"{upstream} did not answer in time") from error
    except aiohttp.ClientError as error:
        raise UpstreamUnavailable(f"{upstream} cannot be reached") from error


class HttpFeatureStore:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._upstream = _HttpUpstream("feature_service", session)

    async def user_features(self, user_id: str) -> UserFeatures:
        return await self._upstream.call("GET", f"/v1/users/{_quote(user_id)}/features", UserFeatures)

    async def record(self, events: Sequence[Event]) -> EventsRecorded:
        return await self._upstream.call("POST", "/v1/events", EventsRecorded, EVENTS.dump_json(events))

    async def popular(self, top_k: int) -> list[PopularItem]:
        return (await self._upstream.call("GET", f"/v1/popular?top_k={top_k}", PopularItems)).items


class HttpRanker:
    """The ports QueryEncoder, Ranker, RecallReference and ReleaseSource."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._upstream = _HttpUpstream("ranker", session)

    async def encode(self, recent_items: Sequence[str], release_version: int | None = None) -> QueryEmbedding:
        request = EncodeRequest(recent_items=list(recent_items), release_version=release_version)
        return await self._upstream.call("POST", "/v1/encode", QueryEmbedding, request.model_dump_json().encode())

    async def releases(self) -> ServingReleases:
        return await self._upstream.call("GET", "/v1/releases", ServingReleases)

    async def item_lines(self, release_version: int) -> bytearray:
        return await self._upstream.download(f"/v1/releases/{release_version}/items")

    async def rank(
        self, recent_items: Sequence[str], candidate_items: Sequence[str], release_version: int | None = None
    ) -> RankedScores:
        request = RankRequest(
            recent_items=list(recent_items), candidate_items=list(candidate_items), release_version=release_version
        )
        answer = await self._upstream.call("POST", "/v1/rank", RankedScores, request.model_dump_json().encode())
        if len(answer.scores) != len(candidate_items):
            raise UpstreamAnswerInvalid(f"ranker: {len(answer.scores)} scores for {len(candidate_items)} candidates")
        return answer

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        body = RecallRequest.of(retrieval).model_dump_json().encode()
        return await self._upstream.call_aside("POST", "/v1/recall", RecallMeasurement, body)


class _HttpUpstream:
    """Calls to one service, with every foreign error translated."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self._upstream = Upstream(name)
        self._session = session

    async def call(self, method: str, path: str, answer: type[A], body: bytes | None = None) -> A:
        async with self._upstream.call():
            left = current_deadline().remaining() - RESERVE_SECONDS
            headers = {} if left == math.inf else {DEADLINE_HEADER: str(max(1, int(left * 1000)))}
            return await self._ask(method, path, answer, body, headers)

    async def call_aside(self, method: str, path: str, answer: type[A], body: bytes | None = None) -> A:
        """Off the request path: without the request's deadline, and of no weight for the breaker."""
        return await self._ask(method, path, answer, body, {})

    async def download(self, path: str) -> bytearray:
        """A file of any size. Off the request path: without a deadline, and of no weight for the breaker."""
        timeout = aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=MAX_SECONDS)
        with translated_errors(self._upstream.name):
            async with self._session.get(URL(path, encoded=True), timeout=timeout) as response:
                if response.status != OK:
                    raise self._refusal(response.status, await response.read())
                content = bytearray()  # grows in place: joining the parts would copy them all at once
                async for part in response.content.iter_any():
                    content += part
        return content

    async def _ask(self, method: str, path: str, answer: type[A], body: bytes | None, headers: Mapping[str, str]) -> A:
        name = self._upstream.name
        status, content = await exchange(self._session, name, method, path, body=body, headers=headers)
        if status != OK:
            raise self._refusal(status, content)
        try:
            return answer.model_validate_json(content)
        except ValidationError as error:
            raise UpstreamAnswerInvalid(f"{name}: {path} answered what is no {answer.__name__}") from error

    def _refusal(self, status: int, content: bytes) -> Exception:
        try:
            told = ErrorResponse.model_validate_json(content)
        except ValidationError:
            return UpstreamUnavailable(f"{self._upstream.name}: status {status}")
        raised = error_for(told.error) or UpstreamUnavailable
        if raised is Overloaded:
            raised = UpstreamOverloaded  # over there, not here
        if status >= SERVER_ERROR and not issubclass(raised, UpstreamError | ReleaseError):
            raised = UpstreamUnavailable  # a mistake over there is no mistake here
        return raised(f"{self._upstream.name}: {told.detail}")


def _quote(path_segment: str) -> str:
    """Ids may hold any character, a slash too, or be two dots."""
    return quote(path_segment, safe="").replace(".", "%2E")
