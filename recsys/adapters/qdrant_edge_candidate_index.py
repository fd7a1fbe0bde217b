"""The ports CandidateIndex and Catalogue on Qdrant Edge: Qdrant's engine inside this process, collections as folders.

A search takes a fraction of a millisecond and holds the GIL, so it runs where it is called instead of in a thread.
One process at a time may open a collection; it is built in another folder and moved when it is whole.
"""

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from uuid import UUID

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    HnswIndexConfig,
    MatchText,
    PayloadSchemaType,
    Point,
    Query,
    ScrollRequest,
    SearchParams,
    SearchRequest,
    UpdateOperation,
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
from recsys.contracts.retrieval import Candidate, CatalogueItem
from recsys.errors import ReleaseNotLoaded, UnknownItem, UpstreamUnavailable

OPEN_COLLECTIONS = 4
"""The champion's, the challenger's, the one before, and the one that is about to be."""
WEIGHTS_FILE = "weights"
"""In a collection's folder: whose embeddings it holds."""
FULL_SCAN_THRESHOLD_KB = 10_000
"""Qdrant's default: below it a filtered search scans instead of walking the graph."""


class QdrantEdgeCandidateIndex:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards: dict[int, EdgeShard] = {}

    async def open(self, release: int) -> None:
        """Load a release's collection ahead of its first search. Raises `ReleaseNotLoaded`."""
        self._shard(release)
        self._shards[release] = self._shards.pop(release)  # the last to be closed for another

    async def close(self) -> None:
        for release in list(self._shards):
            self._shards.pop(release).close()

    async def search(
        self, release: int, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str] = ()
    ) -> list[Candidate]:
        points = self._shard(release).search(
            SearchRequest(
                query=Query.Nearest(list(query_embedding)),
                limit=num_candidates,
                filter=_without(exclude),
                params=SearchParams(hnsw_ef=search_ef(num_candidates)),
                with_payload=True,
            )
        )
        return [candidate_from(point.payload, point.score) for point in points]

    async def similar(self, release: int, item_id: str, top_k: int) -> list[Candidate]:
        shard = self._shard(release)
        found = shard.retrieve([point_id(item_id)], with_payload=False, with_vector=True)
        if not found:
            raise UnknownItem(f"release {release} has no item {item_id!r}")
        anchor = _dense(found[0].vector)
        pool = shard.search(
            SearchRequest(
                query=Query.Nearest([*anchor[:-1], 0.0]),
                limit=top_k * SIMILAR_POOL,
                filter=_without([item_id]),
                params=SearchParams(hnsw_ef=search_ef(top_k * SIMILAR_POOL)),
                with_payload=True,
                with_vector=True,
            )
        )
        described = [indexed_from(point.payload, _dense(point.vector)) for point in pool]
        return nearest_by_angle(anchor, described, top_k)

    async def items(self, release: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        ids: list[int | UUID | str] = [point_id(item_id) for item_id in item_ids]
        records = self._shard(release).retrieve(ids, with_payload=True, with_vector=False)
        return {item.item_id: item for item in (item_from(record.payload) for record in records)}

    async def find_by_title(self, release: int, query: str, limit: int) -> list[CatalogueItem]:
        condition = Filter(must=[FieldCondition("title", match=MatchText(query))])
        records, _ = self._shard(release).scroll(ScrollRequest(limit=limit, filter=condition, with_payload=True))
        return [item_from(record.payload) for record in records]

    def _shard(self, release: int) -> EdgeShard:
        if release not in self._shards:
            path = self._directory / collection_name(release)
            if not path.is_dir():
                raise ReleaseNotLoaded(f"Qdrant Edge has no collection {path.name}; run `make index`")
            self._shards[release] = _load(path)
            for old in list(self._shards)[:-OPEN_COLLECTIONS]:
                self._shards.pop(old).close()
        return self._shards[release]


def _load(path: Path) -> EdgeShard:
    """Raises `UpstreamUnavailable` where the folder is damaged or another process has it open."""
    try:
        return EdgeShard.load(str(path))
    except Exception as error:  # the library has no narrower one
        raise UpstreamUnavailable(f"Qdrant Edge cannot open {path.name}") from error


def edge_collection_holds(directory: Path, release: int, weights: str) -> bool:
    """Whether a release's collection was built from these very weights; one that exists is whole."""
    marker = directory / collection_name(release) / WEIGHTS_FILE
    return marker.is_file() and marker.read_text() == weights


def build_edge_collection(
    directory: Path, release: int, embedding_dim: int, batches: Iterable[Sequence[IndexedItem]]
) -> None:
    """Write a release's collection into `directory`, where nobody may be reading it."""
    path = directory / collection_name(release)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    shard = EdgeShard.create(
        str(path),
        EdgeConfig(
            vectors=EdgeVectorParams(size=embedding_dim, distance=Distance.Dot),
            hnsw_config=HnswIndexConfig(HNSW_M, HNSW_EF_CONSTRUCT, FULL_SCAN_THRESHOLD_KB),
            max_search_threads=1,
        ),
    )
    try:
        shard.update(UpdateOperation.create_field_index("title", PayloadSchemaType.Text))
        for batch in batches:
            points = [Point(point_id(each.item.item_id), each.embedding, payload_of(each)) for each in batch]
            shard.update(UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


def publish_edge_collection(built: Path, directory: Path, release: int, weights: str) -> None:
    """Move a collection from the folder it was built in to the one that is served from, whole or not at all."""
    source, target = built / collection_name(release), directory / collection_name(release)
    (source / WEIGHTS_FILE).write_text(weights)
    shutil.rmtree(target, ignore_errors=True)  # only ever another training's, under a number that is given anew
    source.rename(target)


def _without(exclude: Collection[str]) -> Filter | None:
    if not exclude:
        return None
    return Filter(must_not=[HasIdCondition({point_id(item_id) for item_id in exclude})])


def _dense(vector: object) -> list[float]:
    """Edge types vectors as any of several kinds; ours are dense."""
    if not isinstance(vector, list):
        raise TypeError(f"expected a dense vector, got {type(vector).__name__}")
    return vector
