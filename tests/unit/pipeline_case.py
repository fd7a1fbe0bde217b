"""A small world for the pipeline: ten items, two users, and ports that break on purpose."""

import asyncio
from collections.abc import Sequence
from typing import Any

from recsys.adapters.in_memory import (
    InMemoryCatalogue,
    InMemoryCollection,
    InMemoryFeatureStore,
    InMemoryRanker,
    InMemoryVectorIndex,
)
from recsys.contracts.events import Event
from recsys.contracts.recommendation import RecommendationRequest, RecommendationResponse
from recsys.contracts.retrieval import CatalogueItem, IndexedItem, ServingReleases
from recsys.deadline import Deadline
from recsys.pipeline import RecommendationPipeline
from recsys.quality import QualityFactor

RELEASE = 7
FOREVER = 3600.0
VOCABULARY = "abc"
DEADLINE_SECONDS = 0.5
"""Long beside what the in-memory adapters take, short enough to wait for where a port hangs."""
ITEMS = [f"i{number}" for number in range(10)]
POPULAR = ITEMS[::-1]
"""Best first, as `crowd` has it."""
READER = "reader"
"""Has seen i0 only. By what the model knows, i1 comes next, then i2; the others follow by their bias."""


def _vector(number: int) -> list[float]:
    """The nearer to i0 the first dimension says; the last dimension is the bias, which grows with the number."""
    closeness = {0: 1.0, 1: 0.9, 2: 0.8}.get(number, 0.0)
    return [closeness, (1 - closeness**2) ** 0.5, number / 100]


VECTORS = {item_id: _vector(number) for number, item_id in enumerate(ITEMS)}


class Broken:
    """Every port at once: each call raises the error it was given, or never answers where that is None."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def fail(self, *_: object) -> Any:
        if self._error is None:
            await asyncio.Event().wait()
        raise self._error  # type: ignore[misc]

    user_features = record = popular = encode = releases = rank = search = similar = items = fail


class NoUsers(InMemoryFeatureStore):
    """Knows what is popular, and breaks when it is asked for a user."""

    def __init__(self, broken: Broken) -> None:
        super().__init__()
        self.user_features = broken.fail  # type: ignore[method-assign]


class NoPopular(InMemoryFeatureStore):
    """The other way round."""

    def __init__(self, broken: Broken) -> None:
        super().__init__()
        self.popular = broken.fail  # type: ignore[method-assign]


async def fill(store: InMemoryFeatureStore) -> None:
    """A crowd that makes i9 the most popular and i0 the least, and the reader."""
    views = [("crowd", item_id) for number, item_id in enumerate(ITEMS) for _ in range(number + 1)]
    await store.record([seen(user_id, item_id, at) for at, (user_id, item_id) in enumerate([*views, (READER, "i0")])])


def seen(user_id: str, item_id: str, at: float) -> Event:
    return Event(user_id=user_id, item_id=item_id, event="view", timestamp=at)


def described(item_id: str) -> IndexedItem:
    return IndexedItem(CatalogueItem(item_id, f"Thing {item_id}", {"year": 2000}), VECTORS[item_id])


def working_ports() -> dict[str, Any]:
    """The ports by the names that the pipeline's constructor has for them; the feature store is still empty."""
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
    """A pipeline over working adapters, but for the ports that are given; its feature store is filled."""
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
    return await pipeline.recommend(RecommendationRequest(user_id=user_id, **fields), Deadline(DEADLINE_SECONDS))


def item_ids(answer: Any) -> list[str]:
    return [each.item_id for each in answer.recommendations]
