"""The HTTP endpoints of the feature service."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from starlette.types import Scope

from recsys.contracts.activity import ActiveDays, DayAnswer
from recsys.contracts.base import MAX_CANDIDATES, MAX_ID_LENGTH, ReleaseNumber
from recsys.contracts.event_log import ImpressionBatch, ImpressionsAppended
from recsys.contracts.events import EventBatch, RecordedEvents
from recsys.contracts.features import PopularItems, PrecomputedAnswer, SeenAnswer, SeenQuestion, UserFeatures
from recsys.contracts.release_report import ReleasesReport
from recsys.ports import EventLog, FeatureStore, ItemActivity, ReleaseReports
from recsys.web.api_paths import path_of
from recsys.web.direct_routes import DirectRoute
from recsys.web.service import create_router

MAX_DAY = 10**6
"""The year 4707."""
USERS, FEATURES = "/v1/users/", "/features"

router = create_router(prefix="/v1", tags=["features"])


async def feature_store(request: Request) -> FeatureStore:  # async: FastAPI runs plain functions in a thread
    store: FeatureStore = request.state.feature_store
    return store


async def event_log(request: Request) -> EventLog:
    log: EventLog = request.state.event_log
    return log


async def item_activity(request: Request) -> ItemActivity:
    activity: ItemActivity = request.state.item_activity
    return activity


async def release_reports(request: Request) -> ReleaseReports:
    reports: ReleaseReports = request.state.release_reports
    return reports


Activity = Annotated[ItemActivity, Depends(item_activity)]
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
    return await store.record(batch.events, known_items, batch.event_kinds)


@router.post("/impressions", summary="Append served recommendations to the event log")
async def append(batch: ImpressionBatch, log: Annotated[EventLog, Depends(event_log)]) -> ImpressionsAppended:
    return await log.append(batch)


@router.get("/popular", summary="The trending items, best first")
async def popular(store: Store, top_k: Annotated[int, Query(ge=1, le=MAX_CANDIDATES)] = 100) -> PopularItems:
    return PopularItems(items=await store.popular(top_k))


@router.get("/activity", summary="The days whose uses of items are counted")
async def active_days(activity: Activity) -> ActiveDays:
    return ActiveDays(days=await activity.active_days())


@router.get("/activity/{day}", summary="How often items were used in a UTC day")
async def day_activity(day: Annotated[int, Path(ge=0, le=MAX_DAY)], activity: Activity) -> DayAnswer:
    return DayAnswer(activity=await activity.day_activity(day))


@router.get("/reports/releases", summary="The last report on releases; an empty one before the first")
async def releases(reports: Annotated[ReleaseReports, Depends(release_reports)]) -> ReleasesReport:
    return await reports.releases()


def direct_route(method: str, path: str) -> DirectRoute[str] | None:
    return FEATURES_ROUTE if method == "GET" and path.startswith(USERS) and path.endswith(FEATURES) else None


def _user_id(scope: Scope, _: bytes) -> str | None:
    user_id = path_of(scope)[len(USERS) : -len(FEATURES)]
    sent_as_is = scope["raw_path"].endswith(FEATURES.encode())  # the id itself may end in an encoded `/features`
    return user_id if sent_as_is and 0 < len(user_id) <= MAX_ID_LENGTH else None


async def _features(scope: Scope, user_id: str) -> UserFeatures:
    store: FeatureStore = scope["state"]["feature_store"]
    return await store.user_features(user_id)


FEATURES_ROUTE = DirectRoute("/v1/users/{user_id:any}/features", _user_id, _features)
