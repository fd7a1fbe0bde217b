"""The endpoints of the public API."""

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request, Response
from starlette.types import Scope

from orchestrator.api_keys import Caller, KeyScope
from orchestrator.auth import current_caller
from orchestrator.bootstrap import Orchestrator
from recsys.contracts.base import MAX_ID_LENGTH, MAX_TOP_K
from recsys.contracts.events import Event, Events, EventsRecorded
from recsys.contracts.recommendation import (
    ItemResponse,
    ItemsResponse,
    PopularList,
    RecommendationList,
    RecommendationRequest,
    RecommendationResponse,
)
from recsys.contracts.release_report import ReleasesReport
from recsys.contracts.retrieval import CatalogueItem
from recsys.deadline import DEADLINE_HEADER, LONGEST_MS, SHORTEST_MS
from recsys.errors import ReleaseNotLoaded, UnknownItem
from recsys.observability import ANSWERS, STAGES, annotate_request_log
from recsys.rules import ScoredItem, to_recommendations
from recsys.web.direct_routes import DirectRoute, header, is_json
from recsys.web.service import create_router

MAX_QUERY_LENGTH = 200


async def deadline_header(
    x_deadline_ms: Annotated[
        int | None,
        Header(
            ge=SHORTEST_MS,
            le=LONGEST_MS,
            description="Maximum response time in milliseconds; by default ORCHESTRATOR_DEADLINE_MS.",
        ),
    ] = None,
) -> None:
    """Validates and documents the header. `AdmissionMiddleware` sets the deadline from it."""


router = create_router(prefix="/v1", dependencies=[Depends(deadline_header)])


async def orchestrator(request: Request) -> Orchestrator:  # async: FastAPI runs plain functions in a thread
    opened: Orchestrator = request.state.orchestrator
    return opened


Opened = Annotated[Orchestrator, Depends(orchestrator)]


async def serving_release(opened: Opened) -> int:
    release_version = opened.release_monitor.champion
    if release_version is None:
        raise ReleaseNotLoaded("no release is serving yet; train, register, index and promote one")
    return release_version


Release = Annotated[int, Depends(serving_release)]
ItemIdInPath = Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH)]
TopK = Annotated[int, Query(ge=1, le=MAX_TOP_K)]


@router.post("/recommendations", tags=["recommendations"], summary="Recommendations for a user")
async def recommend(
    request: RecommendationRequest,
    opened: Opened,
    caller: Annotated[Caller, Depends(current_caller)],
    x_variant: Annotated[
        str | None, Header(description="Overrides the experiment's variant, for tests. Needs the scope `operate`.")
    ] = None,
) -> RecommendationResponse:
    if x_variant is not None:
        caller.require(KeyScope.OPERATE, "the header X-Variant")
    if request.debug:
        caller.require(KeyScope.OPERATE, "the field debug")
    return await _serve(opened, request, x_variant)


@router.get("/popular", tags=["recommendations"], summary="Popular items")
async def popular(opened: Opened, top_k: TopK = 10) -> PopularList:
    return await opened.pipeline.popular(top_k)


@router.get("/items/{item_id:any}/similar", tags=["items"], summary="Similar items")
async def similar(
    item_id: ItemIdInPath, opened: Opened, release_version: Release, top_k: TopK = 10
) -> RecommendationList:
    candidates = await opened.index.similar(release_version, item_id, top_k)
    items = [ScoredItem(candidate.item_id, candidate.similarity) for candidate in candidates]
    described = await opened.catalogue.items(release_version, [candidate.item_id for candidate in candidates])
    return RecommendationList(recommendations=to_recommendations(items, described), release_version=release_version)


@router.get("/items/{item_id:any}", tags=["items"], summary="One item")
async def item(item_id: ItemIdInPath, opened: Opened, release_version: Release) -> ItemResponse:
    found = await opened.catalogue.items(release_version, [item_id])
    if item_id not in found:
        raise UnknownItem(f"release {release_version} has no item {item_id!r}")
    return _item_response(found[item_id])


@router.get("/items", tags=["items"], summary="Search items by words in their titles")
async def find_items(
    query: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_LENGTH)],
    opened: Opened,
    release_version: Release,
    limit: TopK = 20,
) -> ItemsResponse:
    item_ids = await opened.index.find_by_title(release_version, query, limit)
    described = await opened.catalogue.items(release_version, item_ids)
    return ItemsResponse(items=[_item_response(each) for each in described.values()])


@router.post("/events", tags=["events"], summary="Record user events; the next recommendation uses them")
async def record(events: Events, opened: Opened) -> EventsRecorded:
    kinds = opened.release_monitor.event_kinds
    new = (await opened.features.record(events, await _known_items(opened, events), kinds)).new
    opened.variants.count_events([event for event, is_new in zip(events, new, strict=True) if is_new])
    return EventsRecorded(recorded=sum(new), duplicates=len(new) - sum(new))


@router.get(
    "/reports/releases",
    tags=["reports"],
    summary="What users did with the recommendations of each release",
    response_model=ReleasesReport,
)
async def releases(opened: Opened) -> Response:
    return Response(await opened.report.json(), media_type="application/json")


async def _known_items(opened: Orchestrator, events: list[Event]) -> set[str]:
    """The items of the events that the catalogue has; none before the first release."""
    try:
        return set(await opened.catalogue.items(None, list({event.item_id for event in events})))
    except ReleaseNotLoaded:
        return set()


def _item_response(item: CatalogueItem) -> ItemResponse:
    return ItemResponse(item_id=item.item_id, title=item.title, metadata=item.metadata)


async def _serve(
    opened: Orchestrator, request: RecommendationRequest, x_variant: str | None = None
) -> RecommendationResponse:
    response = await opened.variants.recommend(request, x_variant)
    opened.impressions.add(response, request.placement)
    ANSWERS.labels(response.tier, response.tier_reason).inc()
    for stage, spent_ms in response.timings_ms.items():
        STAGES.labels(stage).observe(spent_ms / 1000)
    annotate_request_log(
        "recommendation_served",
        recommendation_id=response.recommendation_id,
        user_id=response.user_id,
        tier=response.tier,
        tier_reason=response.tier_reason,
        release=response.release_version,
        variant=response.variant,
        timings_ms=response.timings_ms,
        quality=round(opened.quality.factor, 3),
    )
    return response


def _plain_request(scope: Scope, body: bytes) -> RecommendationRequest | None:
    """The request, unless it needs a scope of its own or has an invalid deadline."""
    if not is_json(scope) or header(scope, b"x-variant") is not None:
        return None
    deadline = header(scope, DEADLINE_HEADER.encode())
    if deadline is not None and not (deadline.isdigit() and SHORTEST_MS <= int(deadline) <= LONGEST_MS):
        return None
    request = RecommendationRequest.model_validate_json(body)
    return None if request.debug else request


async def _serve_directly(scope: Scope, request: RecommendationRequest) -> RecommendationResponse:
    return await _serve(scope["state"]["orchestrator"], request)


RECOMMENDATIONS = DirectRoute("/v1/recommendations", _plain_request, _serve_directly)


def direct_route(method: str, path: str) -> DirectRoute[RecommendationRequest] | None:
    return RECOMMENDATIONS if method == "POST" and path == RECOMMENDATIONS.path else None
