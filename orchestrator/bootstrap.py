"""The orchestrator's composition root: opens its upstreams, puts the pipeline together, closes all afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from qdrant_client import AsyncQdrantClient

from orchestrator.lookout import Lookout
from orchestrator.settings import OrchestratorSettings
from orchestrator.variants import Variants
from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker, open_session
from recsys.adapters.qdrant_candidate_index import TIMEOUT_SECONDS, QdrantCandidateIndex
from recsys.adapters.qdrant_edge_candidate_index import QdrantEdgeCandidateIndex
from recsys.experiment import Experiment
from recsys.observability import QUALITY
from recsys.pipeline import RecommendationPipeline
from recsys.ports import FeatureStore
from recsys.quality import QualityFactor

SLOW = 0.4
"""A recommendation that takes more than this part of the usual deadline counts as slow."""
Index = QdrantCandidateIndex | QdrantEdgeCandidateIndex


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """What the endpoints work with."""

    pipeline: RecommendationPipeline
    variants: Variants
    features: FeatureStore
    index: Index
    lookout: Lookout
    quality: QualityFactor


@asynccontextmanager
async def open_orchestrator(settings: OrchestratorSettings) -> AsyncIterator[Orchestrator]:
    async with AsyncExitStack() as stack:
        feature_session = await stack.enter_async_context(open_session(settings.feature_service_url))
        ranker_session = await stack.enter_async_context(open_session(settings.ranker_url))
        index = _open_index(settings)
        stack.push_async_callback(index.close)
        features, ranker = HttpFeatureStore(feature_session), HttpRanker(ranker_session)
        lookout = Lookout(ranker, index.open, settings.refresh_seconds)
        quality = QualityFactor(target_seconds=settings.deadline_ms / 1000 * SLOW)
        QUALITY.set_function(lambda: quality.factor)
        pipeline = RecommendationPipeline(
            features,
            ranker,
            index,
            ranker,
            index,
            serving=lambda: lookout.releases,
            num_candidates=settings.num_candidates,
            quality=quality,
        )
        watching = asyncio.create_task(lookout.run(pipeline.remember_popular))
        stack.callback(watching.cancel)
        variants = Variants(pipeline, lookout, Experiment.parse(settings.experiment), settings.shadow)
        stack.push_async_callback(variants.close)
        yield Orchestrator(pipeline, variants, features, index, lookout, quality)


def _open_index(settings: OrchestratorSettings) -> Index:
    if settings.qdrant_url is None:
        assert settings.qdrant_edge_dir is not None
        return QdrantEdgeCandidateIndex(settings.qdrant_edge_dir)
    client = AsyncQdrantClient(
        settings.qdrant_url, api_key=settings.qdrant_api_key, timeout=TIMEOUT_SECONDS, check_compatibility=False
    )
    return QdrantCandidateIndex(client)
