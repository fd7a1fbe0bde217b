"""A pipeline over in-memory adapters with ten items and two users, and ports that fail on purpose."""

import asyncio
from collections.abc import Sequence
from typing import Any

from recsys.adapters.in_memory import (
    InMemoryCatalogue,
    InMemoryCollection,
    InMemoryRanker,
    InMemoryVectorIndex,
)
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.events import Event
from recsys.contracts.recommendation import RecommendationList, RecommendationRequest, RecommendationResponse
from recsys.contracts.retrieval import CatalogueItem, IndexedItem, ServingReleases
from recsys.deadline import Deadline
from recsys.pipeline import RecommendationPipeline
from recsys.quality import QualityFactor

RELEASE = 7
FOREVER = 3600.0
VOCABULARY = "abc"
DEADLINE_SECONDS = 0.5
"""Much longer than the in-memory adapters take, and short enough to wait for when a port hangs."""
ITEMS = [f"i{number}" for number in range(10)]
POPULAR = ITEMS[::-1]
"""Best first, from the events of the crowd."""
READER = "reader"
"""Has seen i0 only. The model ranks i1 first, then i2; the others follow by their bias."""


def _vector(number: int) -> list[float]:
    """The first dimension is the similarity to i0; the last one is the bias, which grows with the number."""
    closeness = {0: 1.0, 1: 0.9, 2: 0.8}.get(number, 0.0)
    return [closeness, (1 - closeness**2) ** 0.5, number / 100]


VECTORS = {item_id: _vector(number) for number, item_id in enumerate(ITEMS)}


class Broken:
    """Implements every port: each call raises the given error, or hangs if it is None."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def fail(self, *_: object) -> Any:
        if self._error is None:
            await asyncio.Event().wait()
        raise self._error  # type: ignore[misc]

    user_features = seen_among = precomputed = record = popular = encode = releases = rank = search = similar = (
        items
    ) = fail
    newest_item_ids: Sequence[str] = ()


class NoUsers(InMemoryFeatureStore):
    """Returns popular items, but fails for user features."""

    def __init__(self, broken: Broken) -> None:
        super().__init__()
        self.user_features = broken.fail  # type: ignore[method-assign]


class NoPopular(InMemoryFeatureStore):
    """Returns user features, but fails for popular items."""

    def __init__(self, broken: Broken) -> None:
        super().__init__()
        self.popular = broken.fail  # type: ignore[method-assign]


async def fill(store: InMemoryFeatureStore) -> None:
    """Record a crowd that makes i9 the most popular item and i0 the least, and the reader."""
    views = [(f"fan-{fan}", item_id) for number, item_id in enumerate(ITEMS) for fan in range(number + 1)]
    await store.record(
        [seen(user_id, item_id, at) for at, (user_id, item_id) in enumerate([*views, (READER, "i0")])], ITEMS
    )


def seen(user_id: str, item_id: str, at: float) -> Event:
    return Event(user_id=user_id, item_id=item_id, event="view", timestamp=at)


def described(item_id: str) -> IndexedItem:
    return IndexedItem(CatalogueItem(item_id, f"Thing {item_id}", {"year": 2000}), VECTORS[item_id])


def working_ports() -> dict[str, Any]:
    """The ports by the names of the pipeline's constructor arguments. The feature store is empty."""
    ranker = InMemoryRanker(RELEASE, VECTORS)
    catalogue = InMemoryCatalogue({RELEASE: [described(item_id).item for item_id in ITEMS]})
    return {
        "features": InMemoryFeatureStore(),
        "encoder": ranker,
        "index": index_of(ITEMS),
        "ranker": ranker,
        "catalogue": catalogue,
    }


def index_of(item_ids: Sequence[str], weights_hash: str = "") -> InMemoryVectorIndex:
    return InMemoryVectorIndex({RELEASE: InMemoryCollection.of(map(described, item_ids), weights_hash)})


async def open_pipeline(
    *, serving: int | None = RELEASE, num_candidates: int = 10, quality: QualityFactor | None = None, **ports: Any
) -> RecommendationPipeline:
    """A pipeline over working adapters, except for the given ports, with a filled feature store."""
    chosen = {**working_ports(), **ports}
    if isinstance(chosen["features"], InMemoryFeatureStore):
        await fill(chosen["features"])
    known = ServingReleases(champion=serving, loaded=[serving], vocabulary_hash=VOCABULARY) if serving else None
    return RecommendationPipeline(
        **chosen,
        serving=lambda: known,
        num_candidates=num_candidates,
        quality=quality or QualityFactor(FOREVER),
    )


async def recommend(pipeline: RecommendationPipeline, user_id: str = READER, **fields: Any) -> RecommendationResponse:
    with Deadline(DEADLINE_SECONDS).activate():
        return await pipeline.recommend(RecommendationRequest(user_id=user_id, **fields))


async def popular(pipeline: RecommendationPipeline, top_k: int) -> RecommendationList:
    with Deadline(DEADLINE_SECONDS).activate():
        return await pipeline.popular(top_k)


def item_ids(response: RecommendationList) -> list[str]:
    return [each.item_id for each in response.recommendations]
