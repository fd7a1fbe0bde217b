"""Every port in plain memory: for tests, notebooks, and a first look at a pipeline. They pass the adapters' contract
tests like the real ones."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.adapters.qdrant_points import IndexedItem, nearest_by_angle
from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.events import Event, EventsRecorded
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.retrieval import Candidate, CatalogueItem, QueryEmbedding, ServingReleases
from recsys.errors import ReleaseNotLoaded, UnknownItem


class InMemoryFeatureStore:
    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._event_ids: set[tuple[str, str]] = set()
        self._popularity: dict[str, float] = defaultdict(float)

    async def user_features(self, user_id: str) -> UserFeatures:
        item_ids = [event.item_id for event in self._events.get(user_id, [])]
        return UserFeatures(
            user_id=user_id,
            known=bool(item_ids),
            recent_items=item_ids[-MAX_HISTORY:],
            seen_items=list(dict.fromkeys(item_ids)),
            attributes={},
        )

    async def record(self, events: Sequence[Event]) -> EventsRecorded:
        recorded = 0
        for event in events:
            if (event.user_id, event.event_id) in self._event_ids:
                continue
            self._event_ids.add((event.user_id, event.event_id))
            happened = min(event.timestamp, time.time())  # an event of the future counts as one of now
            self._events[event.user_id].append(event.model_copy(update={"timestamp": happened}))
            self._events[event.user_id].sort(key=lambda each: each.timestamp)  # stable: ties stay as they arrived
            self._popularity[event.item_id] += 1.0
            recorded += 1
        return EventsRecorded(recorded=recorded, duplicates=len(events) - recorded)

    async def popular(self, top_k: int) -> list[PopularItem]:
        best = sorted(self._popularity.items(), key=lambda pair: -pair[1])[:top_k]
        return [PopularItem(item_id=item_id, popularity=popularity) for item_id, popularity in best]


class InMemoryRanker:
    """The ports QueryEncoder and Ranker: the query is the mean of the recent items' vectors.

    `vectors` holds [embedding_dim] per item, the last dimension being its bias.
    """

    def __init__(
        self, release: int, vectors: Mapping[str, Sequence[float]], *, exclude_seen: bool = True, weights: str = ""
    ) -> None:
        self._release = release
        self._weights = weights
        self._exclude_seen = exclude_seen
        self._vectors = {item_id: np.asarray(vector, dtype=np.float64) for item_id, vector in vectors.items()}

    async def encode(self, recent_items: Sequence[str], release: int | None = None) -> QueryEmbedding:
        self._require(release)
        query = self._query(recent_items)
        return QueryEmbedding(
            release=self._release,
            weights=self._weights,
            query_embedding=None if query is None else query.tolist(),
            exclude_seen=self._exclude_seen,
        )

    async def releases(self) -> ServingReleases:
        return ServingReleases(champion=self._release, loaded=[self._release], vocabulary_hash=self._weights)

    async def rank(
        self, recent_items: Sequence[str], candidate_items: Sequence[str], release: int | None = None
    ) -> RankedScores:
        self._require(release)
        query = self._query(recent_items)
        scores: list[float | None] = []
        for item_id in candidate_items:
            vector = self._vectors.get(item_id)
            if vector is None:
                scores.append(None)
            else:
                scores.append(float(vector[-1] if query is None else vector @ query))
        personalized = query is not None
        return RankedScores(release=self._release, weights=self._weights, personalized=personalized, scores=scores)

    def _require(self, release: int | None) -> None:
        if release not in (None, self._release):
            raise ReleaseNotLoaded(f"release {release} is not loaded; loaded is {self._release}")

    def _query(self, recent_items: Sequence[str]) -> NDArray[np.float64] | None:
        """[embedding_dim], ending in 1 so that the dot product adds the candidate's bias."""
        known = [self._vectors[item_id] for item_id in recent_items if item_id in self._vectors]
        return np.append(np.mean(known, axis=0)[:-1], 1.0) if known else None


class InMemoryCandidateIndex:
    """The ports CandidateIndex and Catalogue: an exact scan of the releases it was given."""

    def __init__(self, releases: Mapping[int, Sequence[IndexedItem]]) -> None:
        self._releases = {release: {each.item.item_id: each for each in items} for release, items in releases.items()}

    async def search(
        self, release: int, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str] = ()
    ) -> list[Candidate]:
        query = np.asarray(query_embedding)
        candidates = [
            Candidate(each.item, float(np.dot(each.embedding, query)), each.weights)
            for item_id, each in self._collection(release).items()
            if item_id not in exclude
        ]
        return sorted(candidates, key=lambda candidate: -candidate.similarity)[:num_candidates]

    async def similar(self, release: int, item_id: str, top_k: int) -> list[Candidate]:
        collection = self._collection(release)
        if item_id not in collection:
            raise UnknownItem(f"release {release} has no item {item_id!r}")
        others = [each for other, each in collection.items() if other != item_id]
        return nearest_by_angle(collection[item_id].embedding, others, top_k)

    async def items(self, release: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        collection = self._collection(release)
        return {item_id: collection[item_id].item for item_id in item_ids if item_id in collection}

    async def find_by_title(self, release: int, query: str, limit: int) -> list[CatalogueItem]:
        words = query.lower().split()
        found = (each.item for each in self._collection(release).values())
        return [item for item in found if set(words) <= set(item.title.lower().split())][:limit]

    def _collection(self, release: int) -> dict[str, IndexedItem]:
        if release not in self._releases:
            raise ReleaseNotLoaded(f"there is no collection of release {release}")
        return self._releases[release]
