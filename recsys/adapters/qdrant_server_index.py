"""The port VectorIndex on a Qdrant server.

Searches are plain HTTP requests, because the official client builds a pydantic model per point, at ten times the CPU.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from yarl import URL

from recsys.adapters.http_clients import OK, translated_errors
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.open_collections import OpenCollections, no_collection, unknown_item
from recsys.adapters.qdrant_points import SIMILAR_POOL, collection_name, point_id, search_params, without_bias
from recsys.adapters.qdrant_server_collections import ServerCollections
from recsys.adapters.upstream import QDRANT, Upstream
from recsys.contracts.retrieval import Candidate, CollectionStatus, GraphSettings, IndexedItem, SearchSettings
from recsys.errors import UpstreamAnswerInvalid, UpstreamUnavailable
from recsys.ports import VectorIndex

DEFAULT_PORT = 6333
NOT_FOUND = 404
GREEN = "green"

T = TypeVar("T")
PointId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Envelope(msgspec.Struct, Generic[T]):
    result: T


class _Scored(msgspec.Struct, gc=False):
    id: PointId
    score: float


class _ScoredVector(msgspec.Struct):
    id: PointId
    vector: list[float]


class _Vector(msgspec.Struct):
    vector: list[float] | dict[str, Any] = {}
    """An empty object for a point without a vector."""


class _Id(msgspec.Struct, gc=False):
    id: PointId


class _Weights(msgspec.Struct):
    weights: str


class _WithWeights(msgspec.Struct):
    payload: _Weights


class _Points(msgspec.Struct, Generic[T]):
    points: list[T]


class _State(msgspec.Struct):
    status: str
    points_count: int | None = None
    indexed_vectors_count: int | None = None


ENCODER = msgspec.json.Encoder()
FOUND = msgspec.json.Decoder(_Envelope[_Points[_Scored]])
FOUND_VECTORS = msgspec.json.Decoder(_Envelope[_Points[_ScoredVector]])
ANCHOR = msgspec.json.Decoder(_Envelope[list[_Vector]])
IDS = msgspec.json.Decoder(_Envelope[_Points[_Id]])
FIRST = msgspec.json.Decoder(_Envelope[_Points[_WithWeights]])
STATE = msgspec.json.Decoder(_Envelope[_State])


class QdrantServerIndex:
    """Create it inside a running event loop."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._pool = HttpPool(_base_url(url), [("api-key", api_key)] if api_key else [])
        self._upstream = Upstream(QDRANT)
        self._opened = OpenCollections()
        self._collections = ServerCollections(url, api_key)

    async def open(self, release_version: int, item_ids: Sequence[str], settings: SearchSettings) -> None:
        request = {"limit": 1, "with_payload": ["weights"]}
        first = (await self._post(release_version, "/points/scroll", request, FIRST)).points
        if not first:
            raise no_collection(release_version)
        await self._opened.open(release_version, item_ids, first[0].payload.weights, settings)

    async def search(
        self,
        release_version: int,
        query_embedding: Sequence[float],
        num_candidates: int,
        exclude: Collection[str] = (),
        settings: SearchSettings | None = None,
    ) -> list[Candidate]:
        opened = self._opened[release_version]
        settings = settings or opened.settings
        points = opened.point_ids.points_of(exclude)
        request = _query(settings.scaled(query_embedding), num_candidates, points, settings)
        found = (await self._post(release_version, "/points/query", request, FOUND)).points
        similarities = settings.unscaled([point.score for point in found])
        return opened.candidates([point.id for point in found], similarities)

    async def similar(self, release_version: int, item_id: str, top_k: int) -> list[Candidate]:
        opened = self._opened[release_version]
        anchor_id = point_id(item_id)
        wanted = {"ids": [anchor_id], "with_payload": False, "with_vector": True}
        found = await self._post(release_version, "/points", wanted, ANCHOR)
        if not found:
            raise unknown_item(release_version, item_id)
        anchor = found[0].vector
        if not isinstance(anchor, list):
            return []
        request = _query(without_bias(anchor), top_k * SIMILAR_POOL, [anchor_id], opened.settings)
        pool = (
            await self._post(release_version, "/points/query", {**request, "with_vector": True}, FOUND_VECTORS)
        ).points
        ids, vectors = [point.id for point in pool], [point.vector for point in pool]
        return opened.nearest_by_angle(anchor, ids, vectors, top_k)

    async def find_by_title(self, release_version: int, query: str, limit: int) -> list[str]:
        opened = self._opened[release_version]
        has_words = {"must": [{"key": "title", "match": {"text": query}}]}
        request = {"filter": has_words, "limit": limit, "with_payload": False}
        points = (await self._post(release_version, "/points/scroll", request, IDS)).points
        return opened.point_ids.item_ids_of([point.id for point in points])

    async def status(self, release_version: int) -> CollectionStatus:
        self._opened[release_version]  # raises if it is not open
        state = await self._send(release_version, "GET", "", None, STATE)
        return CollectionStatus(state.points_count or 0, state.indexed_vectors_count or 0, state.status != GREEN)

    async def close(self) -> None:
        await self._pool.close()
        await self._collections.close()

    def staging(self) -> VectorIndex:
        """This index: a release is not served before its collection is verified, so both can share a server."""
        return self

    async def build(
        self,
        release_version: int,
        *,
        embedding_dim: int,
        num_items: int,
        num_vectors: int,
        weights_hash: str,
        graph: GraphSettings | None,
        batches: Iterable[Sequence[IndexedItem]],
        progress: Callable[[int], None] = lambda _: None,
        timeout_seconds: float | None = None,
    ) -> None:
        self._opened.close(release_version)
        await self._collections.build(
            release_version,
            embedding_dim=embedding_dim,
            num_items=num_items,
            num_vectors=num_vectors,
            weights_hash=weights_hash,
            graph=graph,
            batches=batches,
            progress=progress,
            timeout_seconds=timeout_seconds,
        )

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:
        return await self._collections.holds(release_version, weights_hash, num_items)

    async def publish(self, release_version: int) -> None:
        """Does nothing: see `staging`."""

    async def drop(self, release_version: int) -> None:
        self._opened.close(release_version)
        await self._collections.drop(release_version)

    async def collections(self) -> list[int]:
        return await self._collections.versions()

    async def _post(
        self, release_version: int, path: str, request: dict[str, Any], decoder: msgspec.json.Decoder[_Envelope[T]]
    ) -> T:
        return await self._send(release_version, "POST", path, ENCODER.encode(request), decoder)

    async def _send(
        self,
        release_version: int,
        method: str,
        path: str,
        body: bytes | None,
        decoder: msgspec.json.Decoder[_Envelope[T]],
    ) -> T:
        address = f"/collections/{collection_name(release_version)}{path}"
        async with self._upstream.call():
            with translated_errors(self._upstream.name):
                status, content = await self._pool.request(method, address, body)
            if status == NOT_FOUND:
                raise no_collection(release_version)
            if status != OK:
                raise UpstreamUnavailable(f"{QDRANT} returned status {status}")
            try:
                return decoder.decode(content).result
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise UpstreamAnswerInvalid(f"{QDRANT} returned an unexpected response") from error


def _base_url(url: str) -> str:
    """Adds Qdrant's default port, as its client does. The path, if any, is a proxy's prefix."""
    address = URL(url)
    if address.explicit_port is None:
        address = address.with_port(DEFAULT_PORT)
    return f"{str(address).rstrip('/')}/"


def _query(
    query_embedding: Sequence[float], limit: int, without: Sequence[int], settings: SearchSettings
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "query": list(query_embedding),
        "limit": limit,
        "params": search_params(settings, limit),
        "with_payload": False,
    }
    if without:
        request["filter"] = {"must_not": [{"has_id": without}]}
    return request
