"""In-memory adapters of the ports, for tests, notebooks and demos. They pass the same contract tests as the others."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recsys.adapters.open_collections import no_collection, unknown_item
from recsys.adapters.qdrant_points import nearest_by_angle
from recsys.contracts.ranking import RankedScores
from recsys.contracts.retrieval import (
    Candidate,
    CatalogueItem,
    CollectionStatus,
    GraphSettings,
    IndexedItem,
    QueryEmbedding,
    SearchSettings,
    ServingReleases,
)
from recsys.errors import ReleaseNotLoaded
from recsys.ports import VectorIndex


class InMemoryRanker:
    """The ports QueryEncoder, Ranker and ReleaseSource: the query is the mean of the recent items' vectors.

    `vectors` holds [embedding_dim] per item, the last dimension being its bias.
    """

    def __init__(
        self,
        release_version: int,
        vectors: Mapping[str, Sequence[float]],
        *,
        exclude_seen: bool = True,
        weights_hash: str = "",
        other_candidates: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._release = release_version
        self._other_candidates = {source: list(items) for source, items in other_candidates.items()}
        self._weights_hash = weights_hash
        self._exclude_seen = exclude_seen
        self._vectors = {item_id: np.asarray(vector, dtype=np.float64) for item_id, vector in vectors.items()}

    async def encode(
        self,
        recent_items: Sequence[str],
        release_version: int | None = None,
        unseen_items: Sequence[str] = (),  # noqa: ARG002 - its sources are given
    ) -> QueryEmbedding:
        self._require(release_version)
        query = self._query(recent_items)
        return QueryEmbedding(
            release_version=self._release,
            weights_hash=self._weights_hash,
            query_embedding=None if query is None else query.tolist(),
            exclude_seen=self._exclude_seen,
            other_candidates=self._other_candidates,
        )

    async def releases(self) -> ServingReleases:
        return ServingReleases(
            champion=self._release,
            loaded=[self._release],
            vocabulary_hash=self._weights_hash,
            weights_hashes={self._release: self._weights_hash},
            search={self._release: SearchSettings(hnsw_ef=None)},
        )

    async def item_lines(self, release_version: int) -> bytes:
        self._require(release_version)
        return b"".join(
            json.dumps({"item_id": item_id, "title": item_id}).encode() + b"\n" for item_id in self._vectors
        )

    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        self._require(release_version)
        query = self._query(recent_items)
        scores: list[float | None] = []
        for item_id in candidate_items:
            vector = self._vectors.get(item_id)
            if vector is None:
                scores.append(None)
            else:
                scores.append(float(vector[-1] if query is None else vector @ query))
        personalized = query is not None
        return RankedScores(
            release_version=self._release,
            weights_hash=self._weights_hash,
            personalized=personalized,
            scores=scores,
            near_disliked=[item_id for item_id in candidate_items if self._is_near(item_id, disliked_items)],
        )

    def _is_near(self, item_id: str, others: Sequence[str]) -> bool:
        """Whether the vector, without the bias, is the same as that of one of the others."""
        vectors = self._vectors
        return item_id in vectors and any(
            np.array_equal(vectors[item_id][:-1], vectors[other][:-1]) for other in others if other in vectors
        )

    def _require(self, release_version: int | None) -> None:
        if release_version not in (None, self._release):
            raise ReleaseNotLoaded(f"release {release_version} is not loaded; loaded release: {self._release}")

    def _query(self, recent_items: Sequence[str]) -> NDArray[np.float64] | None:
        """[embedding_dim]; the last component is 1, so the dot product adds the candidate's bias."""
        known = [self._vectors[item_id] for item_id in recent_items if item_id in self._vectors]
        return np.append(np.mean(known, axis=0)[:-1], 1.0) if known else None


@dataclass(frozen=True, slots=True)
class InMemoryCollection:
    items: Mapping[str, IndexedItem]
    weights_hash: str
    num_indexed: int = 0

    @classmethod
    def of(cls, items: Iterable[IndexedItem], weights_hash: str = "") -> "InMemoryCollection":
        return cls({each.item.item_id: each for each in items}, weights_hash)


class InMemoryVectorIndex:
    """The port VectorIndex. Every search is an exact scan, and every collection is always open."""

    def __init__(self, collections: Mapping[int, InMemoryCollection] = MappingProxyType({})) -> None:
        self._collections = dict(collections)
        self._staging: InMemoryVectorIndex | None = None

    async def open(self, release_version: int, item_ids: Sequence[str], settings: SearchSettings) -> None:  # noqa: ARG002
        self._collection(release_version)

    async def search(
        self,
        release_version: int,
        query_embedding: Sequence[float],
        num_candidates: int,
        exclude: Collection[str] = (),
        settings: SearchSettings | None = None,  # noqa: ARG002
    ) -> list[Candidate]:
        query, collection = np.asarray(query_embedding), self._collection(release_version)
        candidates = [
            Candidate(item_id, float(np.dot(each.embedding, query)), collection.weights_hash)
            for item_id, each in collection.items.items()
            if each.embedding is not None and item_id not in exclude
        ]
        return sorted(candidates, key=lambda candidate: -candidate.similarity)[:num_candidates]

    async def similar(self, release_version: int, item_id: str, top_k: int) -> list[Candidate]:
        collection = self._collection(release_version)
        if item_id not in collection.items:
            raise unknown_item(release_version, item_id)
        anchor = collection.items[item_id].embedding
        if anchor is None:
            return []
        others = {other: each.embedding for other, each in collection.items.items() if each.embedding is not None}
        others.pop(item_id)
        rows, cosines = nearest_by_angle(anchor, list(others.values()), top_k)
        item_ids = list(others)
        return [
            Candidate(item_ids[row], cosine, collection.weights_hash) for row, cosine in zip(rows, cosines, strict=True)
        ]

    async def find_by_title(self, release_version: int, query: str, limit: int) -> list[str]:
        words = set(query.lower().split())
        items = (each.item for each in self._collection(release_version).items.values())
        return [item.item_id for item in items if words <= set(item.title.lower().split())][:limit]

    async def status(self, release_version: int) -> CollectionStatus:
        collection = self._collection(release_version)
        return CollectionStatus(len(collection.items), collection.num_indexed, indexing=False)

    async def close(self) -> None:
        """Does nothing: there are no connections."""

    def staging(self) -> VectorIndex:
        return self._staged()

    async def build(
        self,
        release_version: int,
        *,
        embedding_dim: int,  # noqa: ARG002
        num_items: int,  # noqa: ARG002
        num_vectors: int,
        weights_hash: str,
        graph: GraphSettings | None,
        batches: Iterable[Sequence[IndexedItem]],
        progress: Callable[[int], None] = lambda _: None,
        timeout_seconds: float | None = None,  # noqa: ARG002
    ) -> None:
        built = InMemoryCollection.of((each for batch in batches for each in batch), weights_hash)
        built = replace(built, num_indexed=num_vectors if graph else 0)
        self._collections[release_version] = built
        progress(built.num_indexed)

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:
        found = self._collections.get(release_version)
        return found is not None and found.weights_hash == weights_hash and len(found.items) == num_items

    async def publish(self, release_version: int) -> None:
        staged = self._staged()
        self._collections[release_version] = staged._collection(release_version)
        await staged.drop(release_version)

    async def drop(self, release_version: int) -> None:
        self._collections.pop(release_version, None)

    async def collections(self) -> list[int]:
        return sorted(self._collections)

    def _staged(self) -> "InMemoryVectorIndex":
        if self._staging is None:
            self._staging = InMemoryVectorIndex()
        return self._staging

    def _collection(self, release_version: int) -> InMemoryCollection:
        if release_version not in self._collections:
            raise no_collection(release_version)
        return self._collections[release_version]


class InMemoryCatalogue:
    """The port Catalogue. The last of the given releases counts as the most recently loaded one."""

    def __init__(self, releases: Mapping[int, Iterable[CatalogueItem]]) -> None:
        self._releases = {version: {item.item_id: item for item in items} for version, items in releases.items()}

    async def items(self, release_version: int | None, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        version = next(reversed(self._releases), None) if release_version is None else release_version
        if version is None or version not in self._releases:
            raise ReleaseNotLoaded(f"the catalogue of release {version} is not loaded")
        items = self._releases[version]
        return {item_id: items[item_id] for item_id in item_ids if item_id in items}

    @property
    def newest_item_ids(self) -> Sequence[str]:
        return list(next(reversed(self._releases.values()))) if self._releases else ()
