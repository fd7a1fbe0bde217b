"""The composition root of the orchestrator: opens the upstreams, builds the pipeline, and closes everything on exit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from orchestrator.impressions import ImpressionBuffer
from orchestrator.recall_monitor import RecallMonitor
from orchestrator.release_monitor import ReleaseMonitor
from orchestrator.reports import KeptReport
from orchestrator.settings import OrchestratorSettings
from orchestrator.variants import Variants
from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.open_index import open_index
from recsys.adapters.ranker_pool import RankerPool
from recsys.adapters.release_catalogue import ReleaseCatalogue
from recsys.experiment import Experiment
from recsys.internal_token import internal_headers
from recsys.observability import QUALITY
from recsys.pipeline import RecommendationPipeline
from recsys.ports import Catalogue, FeatureStore, VectorIndex
from recsys.quality import QualityFactor


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """The objects that the endpoints use."""

    pipeline: RecommendationPipeline
    variants: Variants
    impressions: ImpressionBuffer
    features: FeatureStore
    index: VectorIndex
    catalogue: Catalogue
    release_monitor: ReleaseMonitor
    quality: QualityFactor
    report: KeptReport


@asynccontextmanager
async def open_orchestrator(settings: OrchestratorSettings) -> AsyncIterator[Orchestrator]:
    headers = internal_headers(settings.internal_token).items()
    async with AsyncExitStack() as stack:
        feature_pool = await stack.enter_async_context(HttpPool(settings.feature_service_url, headers))
        ranker = RankerPool(settings.ranker_url, lambda url: HttpRanker(HttpPool(url, headers)))
        stack.push_async_callback(ranker.close)
        index = open_index(settings.qdrant_url, settings.qdrant_api_key, settings.qdrant_edge_dir)
        stack.push_async_callback(index.close)
        features = HttpFeatureStore(feature_pool)
        catalogue = ReleaseCatalogue(ranker)
        release_monitor = ReleaseMonitor(ranker, index, catalogue, settings.refresh_seconds)
        quality = QualityFactor(settings.deadline_ms / 1000)
        QUALITY.set_function(lambda: quality.factor)
        recall_monitor = RecallMonitor(ranker, settings.recall_sample)
        stack.push_async_callback(recall_monitor.close)
        pipeline = RecommendationPipeline(
            features=features,
            encoder=ranker,
            index=index,
            ranker=ranker,
            catalogue=catalogue,
            serving=lambda: release_monitor.releases,
            num_candidates=settings.num_candidates,
            quality=quality,
            explore_share=settings.explore_share,
            on_retrieved=recall_monitor.on_retrieved,
        )
        monitoring = asyncio.create_task(release_monitor.run(pipeline.remember_popular))
        stack.callback(monitoring.cancel)
        variants = Variants(pipeline, release_monitor, Experiment.parse(settings.experiment), settings.shadow)
        stack.push_async_callback(variants.close)
        impressions = ImpressionBuffer(features)
        stack.push_async_callback(impressions.close)
        sending = asyncio.create_task(impressions.run())
        stack.callback(sending.cancel)
        yield Orchestrator(
            pipeline, variants, impressions, features, index, catalogue, release_monitor, quality, KeptReport(features)
        )
