"""The HTTP endpoints of the feature service."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from recsys.contracts.base import MAX_CANDIDATES, MAX_ID_LENGTH
from recsys.contracts.events import Events, EventsRecorded
from recsys.contracts.features import PopularItems, UserFeatures
from recsys.ports import FeatureStore
from recsys.web.service import create_router

router = create_router(prefix="/v1", tags=["features"])


async def feature_store(request: Request) -> FeatureStore:  # async: FastAPI runs plain functions in a thread
    store: FeatureStore = request.state.feature_store
    return store


Store = Annotated[FeatureStore, Depends(feature_store)]


@router.get("/users/{user_id:any}/features", summary="A user's history and attributes")
async def user_features(
    user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH)], store: Store
) -> UserFeatures:
    return await store.user_features(user_id)


@router.post("/events", summary="Append events; duplicates are ignored")
async def record(events: Events, store: Store) -> EventsRecorded:
    return await store.record(events)


@router.get("/popular", summary="The trending items, best first")
async def popular(store: Store, top_k: Annotated[int, Query(ge=1, le=MAX_CANDIDATES)] = 100) -> PopularItems:
    return PopularItems(items=await store.popular(top_k))
