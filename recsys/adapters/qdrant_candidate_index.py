"""The ports CandidateIndex and Catalogue on a Qdrant server."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from json import JSONDecodeError

from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse
from qdrant_client.models import (
    Distance,
    FieldCondition,
    Filter,
    HasIdCondition,
    HnswConfigDiff,
    MatchText,
    PointStruct,
    SearchParams,
    TextIndexParams,
    TextIndexType,
    VectorParams,
)

from recsys.adapters.qdrant_points import (
    HNSW_EF_CONSTRUCT,
    HNSW_M,
    SIMILAR_POOL,
    IndexedItem,
    candidate_from,
    collection_name,
    indexed_from,
    item_from,
    nearest_by_angle,
    payload_of,
    point_id,
    search_ef,
)
from recsys.adapters.upstream import Upstream
from recsys.contracts.retrieval import Candidate, CatalogueItem
from recsys.errors import ReleaseNotLoaded, UnknownItem, UpstreamAnswerInvalid, UpstreamTimeout, UpstreamUnavailable

TIMEOUT_SECONDS = 2
NOT_FOUND = 404


class QdrantCandidateIndex:
    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client
        self._upstream = Upstream("Qdrant")

    async def open(self, release: int) -> None:
        """See that a release's collection is there. Raises `ReleaseNotLoaded`."""
        async with self._call(release):
            if not await self._client.collection_exists(collection_name(release)):
                raise ReleaseNotLoaded(f"Qdrant has no collection {collection_name(release)}; run `make index`")

    async def close(self) -> None:
        await self._client.close()

    async def search(
        self, release: int, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str] = ()
    ) -> list[Candidate]:
        async with self._call(release):
            answer = await self._client.query_points(
                collection_name(release),
                query=list(query_embedding),
                limit=num_candidates,
                query_filter=_without(exclude),
                search_params=SearchParams(hnsw_ef=search_ef(num_candidates)),
                with_payload=True,
            )
            return [candidate_from(point.payload, point.score) for point in answer.points]

    async def similar(self, release: int, item_id: str, top_k: int) -> list[Candidate]:
        async with self._call(release):
            name = collection_name(release)
            found = await self._client.retrieve(name, [point_id(item_id)], with_payload=False, with_vectors=True)
            if not found:
                raise UnknownItem(f"release {release} has no item {item_id!r}")
            anchor = _dense(found[0].vector)
            pool = await self._client.query_points(
                name,
                query=[*anchor[:-1], 0.0],
                limit=top_k * SIMILAR_POOL,
                query_filter=_without([item_id]),
                search_params=SearchParams(hnsw_ef=search_ef(top_k * SIMILAR_POOL)),
                with_payload=True,
                with_vectors=True,
            )
            described = [indexed_from(point.payload, _dense(point.vector)) for point in pool.points]
        return nearest_by_angle(anchor, described, top_k)

    async def items(self, release: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        async with self._call(release):
            ids = [point_id(item_id) for item_id in item_ids]
            records = await self._client.retrieve(collection_name(release), ids, with_payload=True)
            return {item.item_id: item for item in (item_from(record.payload) for record in records)}

    async def find_by_title(self, release: int, query: str, limit: int) -> list[CatalogueItem]:
        condition = Filter(must=[FieldCondition(key="title", match=MatchText(text=query))])
        async with self._call(release):
            records, _ = await self._client.scroll(
                collection_name(release), scroll_filter=condition, limit=limit, with_payload=True
            )
            return [item_from(record.payload) for record in records]

    @asynccontextmanager
    async def _call(self, release: int) -> AsyncIterator[None]:
        async with self._upstream.call():
            with _translated_errors(release):
                yield


def server_collection_holds(client: QdrantClient, release: int, weights: str, num_items: int) -> bool:
    """Whether a release's collection is there with every item in it, made of these very weights."""
    name = collection_name(release)
    with _translated_errors(release):
        if not client.collection_exists(name) or client.count(name, exact=True).count != num_items:
            return False
        some, _ = client.scroll(name, limit=1, with_payload=["weights"])
    return bool(some) and (some[0].payload or {}).get("weights") == weights


def build_server_collection(
    client: QdrantClient, release: int, embedding_dim: int, batches: Iterable[Sequence[IndexedItem]]
) -> None:
    """Write a release's collection, in place of what an interrupted run may have left of it."""
    name = collection_name(release)
    with _translated_errors(release):
        client.delete_collection(name)
        client.create_collection(
            name,
            vectors_config=VectorParams(size=embedding_dim, distance=Distance.DOT),
            hnsw_config=HnswConfigDiff(m=HNSW_M, ef_construct=HNSW_EF_CONSTRUCT),
        )
        client.create_payload_index(name, "title", TextIndexParams(type=TextIndexType.TEXT))
        for batch in batches:
            points = [
                PointStruct(id=point_id(each.item.item_id), vector=each.embedding, payload=payload_of(each))
                for each in batch
            ]
            client.upsert(name, points, wait=True)


def _without(exclude: Collection[str]) -> Filter | None:
    if not exclude:
        return None
    return Filter(must_not=[HasIdCondition(has_id=[point_id(item_id) for item_id in exclude])])


def _dense(vector: object) -> list[float]:
    """The client types vectors as any of several kinds; ours are dense."""
    if not isinstance(vector, list):
        raise UpstreamAnswerInvalid(f"Qdrant answered with a {type(vector).__name__} where a dense vector is")
    return vector


@contextmanager
def _translated_errors(release: int) -> Iterator[None]:
    """The client's texts have addresses and whole answers in them, which stay in here."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == NOT_FOUND:
            raise ReleaseNotLoaded(f"Qdrant has no collection {collection_name(release)}; run `make index`") from error
        raise UpstreamUnavailable(f"Qdrant answered with status {error.status_code}") from error
    except ResponseHandlingException as error:
        if "timed out" in str(error).lower() or "timeout" in type(error.source).__name__.lower():
            raise UpstreamTimeout("Qdrant did not answer in time") from error
        if isinstance(error.source, ValidationError):
            raise UpstreamAnswerInvalid("Qdrant answered in another shape") from error
        raise UpstreamUnavailable("Qdrant cannot be reached") from error
    except (ApiException, QdrantException) as error:
        raise UpstreamUnavailable(f"Qdrant refused ({type(error).__name__})") from error
    except AssertionError as error:  # the client's, where the answer has no result
        raise UpstreamAnswerInvalid("Qdrant answered with nothing") from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise UpstreamAnswerInvalid("Qdrant answered with no JSON") from error
