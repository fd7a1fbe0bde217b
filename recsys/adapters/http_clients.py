"""The ports over HTTP: clients of the feature service and of the ranker service.

Every call is idempotent (events carry their ids), so a call that loses its connection is sent once more. Each call
sends the remaining time of its deadline.
"""

import asyncio
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from recsys.adapters.http_pool import Headers, HttpPool
from recsys.adapters.upstream import FEATURE_SERVICE, MAX_SECONDS, RANKER, Upstream
from recsys.breaker import State
from recsys.contracts.activity import ActiveDay, ActiveDays, DayActivity, DayAnswer
from recsys.contracts.base import MAX_ID_LENGTH, ErrorResponse
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds
from recsys.contracts.event_log import ImpressionBatch, ImpressionsAppended
from recsys.contracts.events import Event, EventBatch, RecordedEvents
from recsys.contracts.features import (
    PopularItem,
    PopularItems,
    PrecomputedAnswer,
    PrecomputedList,
    SeenAnswer,
    SeenQuestion,
    UserFeatures,
)
from recsys.contracts.ranking import RankedScores, RankRequest
from recsys.contracts.recall import RecallMeasurement, RecallRequest, Retrieval
from recsys.contracts.release_report import ReleasesReport
from recsys.contracts.retrieval import EncodeRequest, QueryEmbedding, ServingReleases
from recsys.deadline import DEADLINE_HEADER, RESERVE_SECONDS, current_deadline
from recsys.errors import (
    Overloaded,
    ReleaseError,
    Unauthorized,
    UpstreamAnswerInvalid,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
    error_for,
)

T = TypeVar("T", bound=BaseModel)

DOWNLOAD_SECONDS = 300.0
OK = 200
SERVER_ERROR = 500


@contextmanager
def translated_errors(upstream: str) -> Iterator[None]:
    """Translate the pool's errors. Their messages are dropped: they may contain addresses."""
    try:
        yield
    except TimeoutError as error:
        raise UpstreamTimeout(f"{upstream} did not answer in time") from error
    except OSError as error:
        raise UpstreamUnavailable(f"{upstream} cannot be reached") from error


@contextmanager
def _only_valid_ids(upstream: str) -> Iterator[None]:
    """Stores that were filled before ids had a limit may hold longer ones. They fail a stage and not the request."""
    try:
        yield
    except ValidationError as error:
        raise UpstreamAnswerInvalid(f"{upstream} cannot be asked: a store holds an id that is not valid") from error


class HttpFeatureStore:
    """The ports FeatureStore, EventLog, ItemActivity and ReleaseReports."""

    def __init__(self, pool: HttpPool) -> None:
        self._upstream = _HttpUpstream(FEATURE_SERVICE, pool)

    async def user_features(self, user_id: str) -> UserFeatures:
        return await self._upstream.call("GET", f"/v1/users/{_quote(user_id)}/features", UserFeatures)

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        with _only_valid_ids(FEATURE_SERVICE):
            body = SeenQuestion(item_ids=list(item_ids)).model_dump_json().encode()
        answer = await self._upstream.call("POST", f"/v1/users/{_quote(user_id)}/seen", SeenAnswer, body)
        return set(answer.item_ids)

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:
        path = f"/v1/users/{_quote(user_id)}/precomputed?release={release_version}"
        return (await self._upstream.call("GET", path, PrecomputedAnswer)).precomputed

    async def record(
        self, events: Sequence[Event], known_items: Collection[str], kinds: EventKinds = DEFAULT_KINDS
    ) -> RecordedEvents:
        batch = EventBatch(
            events=list(events),
            event_kinds=kinds.only({event.event for event in events}),
            known=[event.item_id in known_items for event in events],
        )
        recorded = await self._upstream.call("POST", "/v1/events", RecordedEvents, batch.model_dump_json().encode())
        if len(recorded.new) != len(events):
            raise UpstreamAnswerInvalid(f"{FEATURE_SERVICE}: {len(recorded.new)} results for {len(events)} events")
        return recorded

    async def popular(self, top_k: int) -> list[PopularItem]:
        return (await self._upstream.call("GET", f"/v1/popular?top_k={top_k}", PopularItems)).items

    async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
        body = batch.model_dump_json().encode()
        return await self._upstream.call_in_background("POST", "/v1/impressions", ImpressionsAppended, body)

    async def active_days(self) -> list[ActiveDay]:
        return (await self._upstream.call_in_background("GET", "/v1/activity", ActiveDays)).days

    async def day_activity(self, day: int) -> DayActivity | None:
        return (await self._upstream.call_in_background("GET", f"/v1/activity/{day}", DayAnswer)).activity

    async def releases(self) -> ReleasesReport:
        return await self._upstream.call_in_background("GET", "/v1/reports/releases", ReleasesReport)


class HttpRanker:
    """The ports QueryEncoder, Ranker, RecallReference and ReleaseSource, of one replica of the ranker."""

    def __init__(self, pool: HttpPool) -> None:
        self._upstream = _HttpUpstream(RANKER, pool)

    @property
    def suspended(self) -> bool:
        """Whether calls fail at once, because many failed before."""
        return self._upstream.suspended

    async def close(self) -> None:
        """Close the connections, and take the replica out of the metrics."""
        await self._upstream.close()

    async def encode(
        self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
    ) -> QueryEmbedding:
        with _only_valid_ids(RANKER):
            request = EncodeRequest(
                recent_items=_valid(recent_items),
                release_version=release_version,
                unseen_items=_valid(unseen_items),
            )
        return await self._upstream.call("POST", "/v1/encode", QueryEmbedding, request.model_dump_json().encode())

    async def releases(self) -> ServingReleases:
        return await self._upstream.call("GET", "/v1/releases", ServingReleases)

    async def item_lines(self, release_version: int) -> bytearray:
        return await self._upstream.download(f"/v1/releases/{release_version}/items")

    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        with _only_valid_ids(RANKER):
            request = RankRequest(
                recent_items=_valid(recent_items),
                candidate_items=list(candidate_items),
                disliked_items=_valid(disliked_items),
                release_version=release_version,
            )
        ranked = await self._upstream.call("POST", "/v1/rank", RankedScores, request.model_dump_json().encode())
        if len(ranked.scores) != len(candidate_items):
            raise UpstreamAnswerInvalid(f"{RANKER}: {len(ranked.scores)} scores for {len(candidate_items)} candidates")
        return ranked

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        with _only_valid_ids(RANKER):
            body = RecallRequest.of(retrieval).model_dump_json().encode()
        return await self._upstream.call_in_background("POST", "/v1/recall", RecallMeasurement, body)


class _HttpUpstream:
    """Calls one service, and translates its errors and the client's."""

    def __init__(self, name: str, pool: HttpPool) -> None:
        self._upstream = Upstream(name)
        self._pool = pool

    @property
    def suspended(self) -> bool:
        return self._upstream.state != State.CLOSED

    async def close(self) -> None:
        self._upstream.forget()
        await self._pool.close()

    async def call(self, method: str, path: str, response: type[T], body: bytes | None = None) -> T:
        async with self._upstream.call():
            remaining = current_deadline().remaining() - RESERVE_SECONDS
            headers = () if remaining == math.inf else ((DEADLINE_HEADER, str(max(1, int(remaining * 1000)))),)
            return self._parsed(response, await self._send(method, path, body, headers))

    async def call_in_background(self, method: str, path: str, response: type[T], body: bytes | None = None) -> T:
        """A call off the request path: without a deadline, and without effect on the breaker."""
        return self._parsed(response, await self._send_in(MAX_SECONDS, method, path, body))

    async def download(self, path: str) -> bytearray:
        """A file of any size, off the request path: without a deadline, and without effect on the breaker."""
        return await self._send_in(DOWNLOAD_SECONDS, "GET", path)

    async def _send_in(self, seconds: float, method: str, path: str, body: bytes | None = None) -> bytearray:
        with translated_errors(self._upstream.name):
            async with asyncio.timeout(seconds):
                return await self._send(method, path, body)

    async def _send(self, method: str, path: str, body: bytes | None = None, headers: Headers = ()) -> bytearray:
        """The body of a successful response."""
        with translated_errors(self._upstream.name):
            status, content = await self._pool.request(method, path, body, headers)
        if status != OK:
            raise self._error_of(status, content)
        return content

    def _parsed(self, response: type[T], content: bytearray) -> T:
        try:
            return response.model_validate_json(content)
        except ValidationError as error:
            name = self._upstream.name
            raise UpstreamAnswerInvalid(f"{name} did not return a valid {response.__name__}") from error

    def _error_of(self, status: int, content: bytearray) -> Exception:
        try:
            response = ErrorResponse.model_validate_json(content)
        except ValidationError:
            return UpstreamUnavailable(f"{self._upstream.name}: status {status}")
        error = error_for(response.error) or UpstreamUnavailable
        if error is Overloaded:
            error = UpstreamOverloaded  # the upstream is overloaded, not this service
        if error is Unauthorized:
            error = UpstreamUnavailable  # this service has a wrong token, not its caller
        if status >= SERVER_ERROR and not issubclass(error, UpstreamError | ReleaseError):
            error = UpstreamUnavailable  # a bug in the upstream is not a bug in this service
        return error(f"{self._upstream.name}: {response.detail}")


def _valid(item_ids: Sequence[str]) -> list[str]:
    """Items of a user, without ids that are too long. No release knows them."""
    return [item_id for item_id in item_ids if len(item_id) <= MAX_ID_LENGTH]


def _quote(path_segment: str) -> str:
    """Ids may contain any character, including slashes, and may be `..`."""
    return quote(path_segment, safe="").replace(".", "%2E")
