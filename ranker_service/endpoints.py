"""The HTTP endpoints of the ranker service."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Scope

from recsys.adapters.local_ranker import LocalRanker
from recsys.contracts.base import ReleaseNumber, RequestModel
from recsys.contracts.ranking import RankedScores, RankRequest
from recsys.contracts.recall import RecallMeasurement, RecallRequest
from recsys.contracts.retrieval import EncodeRequest, QueryEmbedding, ServingReleases
from recsys.web.direct_routes import DirectRoute, FindRoute, is_json
from recsys.web.service import create_router

NDJSON = "application/x-ndjson"
CHUNK_BYTES = 1 << 18
T = TypeVar("T", bound=RequestModel)
OFF_THE_REQUEST_PATH = re.compile(r"/v1/releases(/\d+/items)?|/v1/recall")

router = create_router(prefix="/v1", tags=["ranking"])


async def local_ranker(request: Request) -> LocalRanker:  # async: FastAPI runs plain functions in a thread
    ranker: LocalRanker = request.app.state.ranker
    return ranker


Ranker = Annotated[LocalRanker, Depends(local_ranker)]


@router.post("/encode", summary="Encode recent items as a query embedding")
async def encode(request: EncodeRequest, ranker: Ranker) -> QueryEmbedding:
    return await ranker.encode(request.recent_items, request.release_version, request.unseen_items)


@router.post("/rank", summary="Score candidates")
async def rank(request: RankRequest, ranker: Ranker) -> RankedScores:
    return await _rank(ranker, request)


@router.post("/recall", summary="Measure the recall of a retrieval")
async def recall(request: RecallRequest, ranker: Ranker) -> RecallMeasurement:
    return await ranker.recall(request.retrieval)


@router.get("/releases", summary="The loaded releases and their roles")
async def releases(ranker: Ranker) -> ServingReleases:
    return await ranker.releases()


@router.get(
    "/releases/{release_version}/items",
    summary="A release's items, one JSON object per line",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {}}}},
)
async def items(release_version: ReleaseNumber, ranker: Ranker) -> StreamingResponse:
    lines = ranker.mapped_item_lines(release_version)
    headers = {"content-length": str(len(lines))}
    return StreamingResponse(_chunks(lines), media_type=NDJSON, headers=headers)


async def _chunks(lines: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(lines), CHUNK_BYTES):
        yield lines[start : start + CHUNK_BYTES]


async def _rank(ranker: LocalRanker, request: RankRequest) -> RankedScores:
    return await ranker.rank(
        request.recent_items, request.candidate_items, request.release_version, request.disliked_items
    )


def direct_routes(ranker: LocalRanker) -> FindRoute[Any]:
    async def encode(_: Scope, request: EncodeRequest) -> QueryEmbedding:
        return await ranker.encode(request.recent_items, request.release_version, request.unseen_items)

    async def rank(_: Scope, request: RankRequest) -> RankedScores:
        return await _rank(ranker, request)

    routes: dict[str, DirectRoute[Any]] = {
        "/v1/encode": DirectRoute("/v1/encode", _parser(EncodeRequest), encode),
        "/v1/rank": DirectRoute("/v1/rank", _parser(RankRequest), rank),
    }
    return lambda method, path: routes.get(path) if method == "POST" else None


def _parser(model: type[T]) -> Callable[[Scope, bytes], T | None]:
    return lambda scope, body: model.model_validate_json(body) if is_json(scope) else None


def is_off_the_request_path(path: str) -> bool:
    """Whether requests to a path need no admission: the list of releases, so that a busy ranker still says what it has
    loaded; file downloads; and recall, which has its own thread and limit."""
    return OFF_THE_REQUEST_PATH.fullmatch(path) is not None
