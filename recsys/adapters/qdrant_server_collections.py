"""Builds, checks and deletes the collections of a Qdrant server, through Qdrant's official client. Used by jobs."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError

from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse
from qdrant_client.models import CollectionStatus as ServerStatus
from qdrant_client.models import (
    Distance,
    HnswConfigDiff,
    OptimizersConfigDiff,
    PointStruct,
    ScalarQuantization,
    ScalarQuantizationConfig,
    ScalarType,
    TextIndexParams,
    TextIndexType,
    VectorParams,
)

from recsys.adapters.graph_layout import GraphLayout
from recsys.adapters.open_collections import no_collection
from recsys.adapters.qdrant_points import collection_name, payload_of, point_id, version_in
from recsys.adapters.upstream import QDRANT
from recsys.contracts.retrieval import CollectionStatus, GraphSettings, IndexedItem
from recsys.errors import JobError, UpstreamAnswerInvalid, UpstreamTimeout, UpstreamUnavailable

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.5
BASE_BUILD_SECONDS = 300.0
BUILD_SECONDS_PER_ITEM = 1e-3
STALLED_SECONDS = 30.0
"""A server that is idle for this long with an incomplete graph will not complete it."""
NOT_FOUND = 404


class ServerCollections:
    """Connects on first use, because an index that only searches never needs it."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key
        self._opened: AsyncQdrantClient | None = None

    @property
    def _client(self) -> AsyncQdrantClient:
        if self._opened is None:
            self._opened = AsyncQdrantClient(
                self._url, api_key=self._api_key, timeout=TIMEOUT_SECONDS, check_compatibility=False
            )
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def versions(self) -> list[int]:
        with translated_errors():
            described = (await self._client.get_collections()).collections
        return sorted(version for each in described if (version := version_in(each.name)) is not None)

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:
        name = collection_name(release_version)
        with translated_errors(release_version):
            if not await self._client.collection_exists(name):
                return False
            if (await self._client.count(name, exact=True)).count != num_items:
                return False
            points, _ = await self._client.scroll(name, limit=1, with_payload=["weights"])
        return bool(points) and (points[0].payload or {}).get("weights") == weights_hash

    async def drop(self, release_version: int) -> None:
        with translated_errors(release_version):
            await self._client.delete_collection(collection_name(release_version))

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
        progress: Callable[[int], None],
        timeout_seconds: float | None,
    ) -> None:
        name, layout = collection_name(release_version), GraphLayout(embedding_dim, num_vectors)
        await self.drop(release_version)
        with translated_errors(release_version):
            await self._create(name, layout, graph)
            for batch in batches:
                points = [
                    PointStruct(
                        id=point_id(each.item.item_id),
                        vector=each.embedding or {},
                        payload=payload_of(each.item, weights_hash),
                    )
                    for each in batch
                ]
                await self._client.upsert(name, points, wait=True)
        expected = layout if graph else None
        if timeout_seconds is None:
            timeout_seconds = BASE_BUILD_SECONDS + BUILD_SECONDS_PER_ITEM * num_items
        await self._wait_until_indexed(release_version, num_items, expected, progress, timeout_seconds)

    async def _create(self, name: str, layout: GraphLayout, graph: GraphSettings | None) -> None:
        hnsw = HnswConfigDiff(m=graph.m, ef_construct=graph.ef_construct) if graph else HnswConfigDiff()
        hnsw.full_scan_threshold = layout.full_scan_threshold_kb
        quantized = ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8, always_ram=True))
        await self._client.create_collection(
            name,
            vectors_config=VectorParams(size=layout.embedding_dim, distance=Distance.DOT),
            hnsw_config=hnsw,
            optimizers_config=OptimizersConfigDiff(
                indexing_threshold=layout.indexing_threshold_kb if graph else 0,
                default_segment_number=1,
                max_segment_size=layout.max_segment_kb,
            ),
            quantization_config=quantized if graph else None,
        )
        await self._client.create_payload_index(name, "title", TextIndexParams(type=TextIndexType.TEXT))

    async def _wait_until_indexed(
        self,
        release_version: int,
        num_items: int,
        expected: GraphLayout | None,
        progress: Callable[[int], None],
        timeout_seconds: float,
    ) -> None:
        """Wait for status green and a complete graph: a server is green until its optimizer notices the last write."""
        least_indexed, num_vectors = (expected.least_indexed, expected.num_vectors) if expected else (0, 0)
        started = changed = time.monotonic()
        before: CollectionStatus | None = None
        while True:
            status = await self._status(release_version)
            progress(status.num_indexed)
            if not status.indexing and status.num_points >= num_items and status.num_indexed >= least_indexed:
                return
            now = time.monotonic()
            if status != before or status.indexing:
                before, changed = status, now
            if now - started > timeout_seconds or now - changed > STALLED_SECONDS:
                raise JobError(
                    f"the collection {collection_name(release_version)} is not indexed after {now - started:.0f} s: "
                    f"{status.num_indexed:,} of {num_vectors:,} vectors are in its graph, "
                    f"and {status.num_points:,} of {num_items:,} items are stored"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _status(self, release_version: int) -> CollectionStatus:
        with translated_errors(release_version):
            info = await self._client.get_collection(collection_name(release_version))
        indexing = info.status != ServerStatus.GREEN
        return CollectionStatus(info.points_count or 0, info.indexed_vectors_count or 0, indexing)


@contextmanager
def translated_errors(release_version: int | None = None) -> Iterator[None]:
    """Translate the client's errors. Their messages are dropped: they contain addresses and response bodies."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == NOT_FOUND and release_version is not None:
            raise no_collection(release_version) from error
        raise UpstreamUnavailable(f"{QDRANT} returned status {error.status_code}") from error
    except ResponseHandlingException as error:
        if "timed out" in str(error).lower() or "timeout" in type(error.source).__name__.lower():
            raise UpstreamTimeout(f"{QDRANT} did not answer in time") from error
        if isinstance(error.source, ValidationError):
            raise UpstreamAnswerInvalid(f"{QDRANT} returned an unexpected response") from error
        raise UpstreamUnavailable(f"{QDRANT} cannot be reached") from error
    except (ApiException, QdrantException) as error:
        raise UpstreamUnavailable(f"{QDRANT} rejected the request ({type(error).__name__})") from error
    except AssertionError as error:  # raised by the client for a response without a result
        raise UpstreamAnswerInvalid(f"{QDRANT} returned an empty response") from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise UpstreamAnswerInvalid(f"{QDRANT} returned invalid JSON") from error
