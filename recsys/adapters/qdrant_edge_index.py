"""The port VectorIndex on Qdrant Edge: Qdrant's engine embedded in this process, with a folder per collection.

A search takes a fraction of a millisecond and holds the GIL, so it runs in the caller's thread. Only one process at a
time can open a collection, so a collection is built in another folder and moved when it is complete.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    HnswIndexConfig,
    MatchText,
    PayloadSchemaType,
    Point,
    QuantizationSearchParams,
    Query,
    Record,
    ScalarQuantizationConfig,
    ScalarType,
    ScoredPoint,
    ScrollRequest,
    SearchParams,
    SearchRequest,
    UpdateOperation,
)

from recsys.adapters.graph_layout import GraphLayout
from recsys.adapters.open_collections import OpenCollections, no_collection, unknown_item
from recsys.adapters.qdrant_points import (
    SIMILAR_POOL,
    collection_name,
    payload_of,
    point_id,
    search_params,
    version_in,
    without_bias,
)
from recsys.contracts.retrieval import Candidate, CollectionStatus, GraphSettings, IndexedItem, SearchSettings
from recsys.errors import JobError, TandemError, UpstreamAnswerInvalid, UpstreamUnavailable
from recsys.ports import VectorIndex

STAGING = "staging"
"""Folder for collections under construction."""
WEIGHTS_FILE = "weights"
"""In a collection's folder, written last: the hash of the weights that made its embeddings."""


class QdrantEdgeIndex:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards: dict[int, EdgeShard] = {}
        self._opened = OpenCollections()
        self._staging: QdrantEdgeIndex | None = None

    async def open(self, release_version: int, item_ids: Sequence[str], settings: SearchSettings) -> None:
        weights_hash = self._weights_hash(release_version)
        if weights_hash is None:
            raise no_collection(release_version)
        if release_version in self._shards and self._opened[release_version].weights_hash != weights_hash:
            self._close(release_version)  # a retrained release with the same version
        if release_version not in self._shards:
            with _translated_errors(release_version):
                self._shards[release_version] = EdgeShard.load(str(self._path(release_version)))
        for closed in await self._opened.open(release_version, item_ids, weights_hash, settings):
            self._shards.pop(closed).close()

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
        with _translated_errors(release_version):
            points = self._shards[release_version].search(
                SearchRequest(
                    query=Query.Nearest(settings.scaled(query_embedding)),
                    limit=num_candidates,
                    filter=_without(opened.point_ids.points_of(exclude)),
                    params=_params(settings, num_candidates),
                )
            )
            ids, similarities = _point_numbers(points), [point.score for point in points]
        return opened.candidates(ids, settings.unscaled(similarities))

    async def similar(self, release_version: int, item_id: str, top_k: int) -> list[Candidate]:
        opened = self._opened[release_version]
        with _translated_errors(release_version):
            shard = self._shards[release_version]
            anchor_id = point_id(item_id)
            found = shard.retrieve([anchor_id], with_payload=False, with_vector=True)
            if not found:
                raise unknown_item(release_version, item_id)
            if not found[0].vector:
                return []
            anchor = _dense(found[0].vector)
            pool = shard.search(
                SearchRequest(
                    query=Query.Nearest(without_bias(anchor)),
                    limit=top_k * SIMILAR_POOL,
                    filter=_without([anchor_id]),
                    params=_params(opened.settings, top_k * SIMILAR_POOL),
                    with_vector=True,
                )
            )
            ids, vectors = _point_numbers(pool), [_dense(point.vector) for point in pool]
        return opened.nearest_by_angle(anchor, ids, vectors, top_k)

    async def find_by_title(self, release_version: int, query: str, limit: int) -> list[str]:
        opened = self._opened[release_version]
        with _translated_errors(release_version):
            condition = Filter(must=[FieldCondition("title", match=MatchText(query))])
            records, _ = self._shards[release_version].scroll(ScrollRequest(limit=limit, filter=condition))
            ids = _point_numbers(records)
        return opened.point_ids.item_ids_of(ids)

    async def status(self, release_version: int) -> CollectionStatus:
        self._opened[release_version]  # raises if it is not open
        with _translated_errors(release_version):
            info = self._shards[release_version].info()
            return CollectionStatus(info.points_count, info.indexed_vectors_count, indexing=False)

    async def close(self) -> None:
        for release_version in list(self._shards):
            self._close(release_version)
        if self._staging is not None:
            await self._staging.close()

    def staging(self) -> VectorIndex:
        return self._staged()

    async def build(
        self,
        release_version: int,
        *,
        embedding_dim: int,
        num_items: int,  # noqa: ARG002
        num_vectors: int,
        weights_hash: str,
        graph: GraphSettings | None,
        batches: Iterable[Sequence[IndexedItem]],
        progress: Callable[[int], None] = lambda _: None,
        timeout_seconds: float | None = None,  # noqa: ARG002
    ) -> None:
        """`timeout_seconds` is ignored: the engine builds the graph during this call."""
        await self.drop(release_version)
        path, layout = self._path(release_version), GraphLayout(embedding_dim, num_vectors)
        path.mkdir(parents=True)
        with _translated_errors(release_version):
            shard = EdgeShard.create(str(path), _config(layout, graph))
            try:
                shard.update(UpdateOperation.create_field_index("title", PayloadSchemaType.Text))
                for batch in batches:
                    points = [
                        Point(point_id(each.item.item_id), each.embedding or {}, payload_of(each.item, weights_hash))
                        for each in batch
                    ]
                    shard.update(UpdateOperation.upsert_points(points))
                shard.optimize()
                shard.flush()
                num_indexed = shard.info().indexed_vectors_count
            finally:
                shard.close()
        progress(num_indexed)
        if graph is not None and num_indexed < layout.least_indexed:
            raise JobError(
                f"the collection {path.name} is not indexed: its graph has {num_indexed:,} of {num_vectors:,} vectors"
            )
        (path / WEIGHTS_FILE).write_text(weights_hash)

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:  # noqa: ARG002
        """`num_items` is ignored: a folder with a weights file is complete."""
        return self._weights_hash(release_version) == weights_hash

    async def publish(self, release_version: int) -> None:
        staged = self._staged()
        if staged._weights_hash(release_version) is None:
            raise no_collection(release_version)
        staged._close(release_version)
        await self.drop(release_version)  # left by a retrained release with the same version
        staged._path(release_version).rename(self._path(release_version))

    async def drop(self, release_version: int) -> None:
        self._close(release_version)
        shutil.rmtree(self._path(release_version), ignore_errors=True)

    async def collections(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(v for path in self._directory.iterdir() if (v := version_in(path.name)) is not None)

    def _staged(self) -> "QdrantEdgeIndex":
        if self._staging is None:
            self._staging = QdrantEdgeIndex(self._directory / STAGING)
        return self._staging

    def _path(self, release_version: int) -> Path:
        return self._directory / collection_name(release_version)

    def _weights_hash(self, release_version: int) -> str | None:
        """The hash of the collection's weights; None if it is missing or incomplete."""
        marker = self._path(release_version) / WEIGHTS_FILE
        try:
            return marker.read_text()
        except FileNotFoundError:
            return None

    def _close(self, release_version: int) -> None:
        self._opened.close(release_version)
        shard = self._shards.pop(release_version, None)
        if shard is not None:
            shard.close()


def _config(layout: GraphLayout, graph: GraphSettings | None) -> EdgeConfig:
    vectors = EdgeVectorParams(size=layout.embedding_dim, distance=Distance.Dot)
    if graph is None:
        return EdgeConfig(
            vectors=vectors,
            optimizers=EdgeOptimizersConfig(indexing_threshold=0, default_segment_number=1),
            max_search_threads=1,
        )
    return EdgeConfig(
        vectors=vectors,
        hnsw_config=HnswIndexConfig(graph.m, graph.ef_construct, layout.full_scan_threshold_kb),
        quantization_config=ScalarQuantizationConfig(ScalarType.Int8, always_ram=True),
        optimizers=EdgeOptimizersConfig(
            indexing_threshold=layout.indexing_threshold_kb,
            default_segment_number=1,
            max_segment_size=layout.max_segment_kb,
        ),
        max_search_threads=1,
    )


def _params(settings: SearchSettings, limit: int) -> SearchParams:
    params = search_params(settings, limit)
    if "quantization" in params:
        params["quantization"] = QuantizationSearchParams(**params["quantization"])
    return SearchParams(**params)


def _without(points: Collection[int]) -> Filter | None:
    return Filter(must_not=[HasIdCondition(set(points))]) if points else None


def _point_numbers(points: Sequence[ScoredPoint] | Sequence[Record]) -> list[int]:
    ids: list[Any] = [point.id for point in points]
    if not set(map(type, ids)) <= {int}:  # not one by one: a search returns hundreds
        other = next(each for each in ids if not isinstance(each, int))
        raise UpstreamAnswerInvalid(f"Qdrant Edge returned the point {other!r}; expected a numeric id")
    return ids


def _dense(vector: object) -> list[float]:
    """Narrows the type: Edge returns several kinds of vectors, and our collections store dense ones."""
    if not isinstance(vector, list):
        raise UpstreamAnswerInvalid(f"Qdrant Edge returned a {type(vector).__name__}; expected a dense vector")
    return vector


@contextmanager
def _translated_errors(release_version: int) -> Iterator[None]:
    """The library raises plain Exception, and TypeError for values that it cannot convert."""
    try:
        yield
    except TandemError:
        raise
    except Exception as error:
        raise UpstreamUnavailable(f"Qdrant Edge failed on {collection_name(release_version)}") from error
