"""The HTTP endpoints of the feature service."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from recsys.contracts.base import MAX_CANDIDATES, MAX_ID_LENGTH, ReleaseNumber
from recsys.contracts.events import EventBatch, RecordedEvents
from recsys.contracts.features import PopularItems, PrecomputedAnswer, SeenAnswer, SeenQuestion, UserFeatures
from recsys.ports import FeatureStore
from recsys.web.service import create_router

router = create_router(prefix="/v1", tags=["features"])


async def feature_store(request: Request) -> FeatureStore:  # async: FastAPI runs plain functions in a thread
    store: FeatureStore = request.state.feature_store
    return store


Store = Annotated[FeatureStore, Depends(feature_store)]
UserIdInPath = Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH)]


@router.get("/users/{user_id:any}/features", summary="A user's history and attributes")
async def user_features(user_id: UserIdInPath, store: Store) -> UserFeatures:
    return await store.user_features(user_id)


@router.post("/users/{user_id:any}/seen", summary="Which of the given items a user has seen")
async def seen_among(user_id: UserIdInPath, question: SeenQuestion, store: Store) -> SeenAnswer:
    return SeenAnswer(item_ids=sorted(await store.seen_among(user_id, question.item_ids)))


@router.get("/users/{user_id:any}/precomputed", summary="A user's precomputed list")
async def precomputed(
    user_id: UserIdInPath, store: Store, release: Annotated[ReleaseNumber, Query()]
) -> PrecomputedAnswer:
    return PrecomputedAnswer(precomputed=await store.precomputed(user_id, release))


@router.post("/events", summary="Append events; duplicates are ignored")
async def record(batch: EventBatch, store: Store) -> RecordedEvents:
    known_items = {event.item_id for event, known in zip(batch.events, batch.known, strict=True) if known}
    return await store.record(batch.events, known_items)


@router.get("/popular", summary="The trending items, best first")
async def popular(store: Store, top_k: Annotated[int, Query(ge=1, le=MAX_CANDIDATES)] = 100) -> PopularItems:
    return PopularItems(items=await store.popular(top_k))
