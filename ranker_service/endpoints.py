"""The ranker's HTTP surface: parse, call the ranker, answer."""

from typing import Annotated

from fastapi import Depends, Request

from recsys.adapters.fastapi_service import create_router
from recsys.adapters.torch_ranker import TorchRanker
from recsys.contracts.ranking import RankedScores, RankRequest
from recsys.contracts.retrieval import EncodeRequest, QueryEmbedding, ServingReleases

router = create_router(prefix="/v1", tags=["ranking"])


async def torch_ranker(request: Request) -> TorchRanker:  # async: FastAPI sends plain functions to a thread
    ranker: TorchRanker = request.app.state.ranker
    return ranker


Ranker = Annotated[TorchRanker, Depends(torch_ranker)]


@router.post("/encode", summary="Recent items to a query embedding")
async def encode(request: EncodeRequest, ranker: Ranker) -> QueryEmbedding:
    return await ranker.encode(request.recent_items, request.release)


@router.post("/rank", summary="Scores for candidates")
async def rank(request: RankRequest, ranker: Ranker) -> RankedScores:
    return await ranker.rank(request.recent_items, request.candidate_items, request.release)


@router.get("/releases", summary="Which releases serve, and as what")
async def releases(ranker: Ranker) -> ServingReleases:
    return await ranker.releases()
