"""The stages of a recommendation, in their order: features -> encode -> retrieve -> rank -> rules.

`recsys.stages` says how long each stage may take and what its failure costs; `recsys.fallback` serves without a model.
"""

import uuid
from collections.abc import Callable, Sequence, Set

from recsys import same_release
from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.features import UserFeatures
from recsys.contracts.recall import Retrieval
from recsys.contracts.recommendation import (
    Provenance,
    RecommendationList,
    RecommendationRequest,
    RecommendationResponse,
    Tier,
)
from recsys.contracts.retrieval import Candidate, QueryEmbedding, ServingReleases
from recsys.deadline import current_deadline
from recsys.describe import Describer
from recsys.experiment import CHAMPION
from recsys.fallback import Fallback
from recsys.ports import Catalogue, FeatureStore, QueryEncoder, Ranker, VectorIndex
from recsys.quality import QualityFactor
from recsys.rules import Exclusions, Shortlist, best_first, by_similarity, take_top_k
from recsys.stages import RequestRun, Stage


class RecommendationPipeline:
    def __init__(
        self,
        *,
        features: FeatureStore,
        encoder: QueryEncoder,
        index: VectorIndex,
        ranker: Ranker,
        catalogue: Catalogue,
        serving: Callable[[], ServingReleases | None],
        num_candidates: int,
        quality: QualityFactor,
        on_retrieved: Callable[[Retrieval], None] = lambda _: None,
    ) -> None:
        """`on_retrieved` is called after every successful search, and the request waits for it."""
        self._features = features
        self._encoder = encoder
        self._index = index
        self._ranker = ranker
        self._num_candidates = num_candidates
        self._quality = quality
        self._on_retrieved = on_retrieved
        self._describer = Describer(catalogue, serving)
        self._fallback = Fallback(features, self._describer, serving, num_candidates)

    async def recommend(
        self, request: RecommendationRequest, variant: str = CHAMPION, release_version: int | None = None
    ) -> RecommendationResponse:
        """Recommend with the release that serves `variant`: `release_version`, by default the ranker's champion."""
        run = RequestRun(current_deadline())

        user = await run.run_stage(Stage.FEATURES, self._features.user_features(request.user_id))
        user = user or UserFeatures.unknown(request.user_id)
        recent_items = [*user.recent_items, *request.session_items][-MAX_HISTORY:]
        seen = {*user.seen_items, *user.recent_items, *request.session_items}
        unwanted = set(request.exclude_items)
        if not recent_items:
            run.degrade_to(Tier.POPULAR, "unknown_user")

        if request.candidate_items is not None:
            exclusions = Exclusions(seen, unwanted, exclude_seen=False)  # the caller chose the items
            shortlist = await self._rank_given(run, recent_items, request.candidate_items, release_version)
        else:
            query = await self._encode(run, recent_items, release_version)
            exclusions = Exclusions(seen, unwanted, exclude_seen=query is None or query.exclude_seen)
            candidates = await self._retrieve(run, query, exclusions.item_ids, request.top_k)
            if query and candidates:
                shortlist = await self._rank(run, query, recent_items, candidates)
            else:
                shortlist = await self._fallback.shortlist(run, user, exclusions)

        picked = take_top_k(shortlist.ranked, exclusions.item_ids, request.top_k)
        if shortlist.retrieved and len(picked) < request.top_k:
            picked = await self._fallback.backfill(run, picked, exclusions, request.top_k)
        recommendations = await self._describer.describe(run, picked, shortlist.release_version)

        return RecommendationResponse(
            recommendation_id=f"{uuid.uuid4().hex}.{variant}",
            user_id=request.user_id,
            recommendations=recommendations,
            total_candidates=len(shortlist.ranked),
            tier=run.tier,
            tier_reason=run.reason,
            release_version=shortlist.release_version,
            variant=variant,
            timings_ms=run.finish(),
            debug=shortlist.provenance if request.debug else None,
        )

    async def popular(self, top_k: int) -> RecommendationList:
        """Popular items, the same for every user."""
        return await self._fallback.recommend_popular(top_k)

    async def remember_popular(self) -> None:
        await self._fallback.remember_popular()

    async def _encode(
        self, run: RequestRun, recent_items: Sequence[str], release_version: int | None
    ) -> QueryEmbedding | None:
        if not recent_items:
            return None
        query = await run.run_stage(Stage.ENCODE, self._encoder.encode(recent_items, release_version))
        if query is not None and query.query_embedding is None:
            run.degrade_to(Tier.POPULAR, "no_known_items")
        return query

    async def _retrieve(
        self, run: RequestRun, query: QueryEmbedding | None, exclude: Set[str], top_k: int
    ) -> list[Candidate]:
        if query is None or query.query_embedding is None:
            return []
        num_candidates = self._quality.scale(self._num_candidates, at_least=top_k)
        search = same_release.search(self._index, query, query.query_embedding, num_candidates, exclude)
        candidates = await run.run_stage(Stage.RETRIEVE, search)
        if candidates is None:
            return []
        found = [candidate.item_id for candidate in candidates]
        self._on_retrieved(
            Retrieval(query.release_version, query.weights_hash, query.query_embedding, num_candidates, exclude, found)
        )
        if not candidates:
            run.degrade_to(Tier.POPULAR, "no_candidates")
        return candidates

    async def _rank(
        self, run: RequestRun, query: QueryEmbedding, recent_items: Sequence[str], candidates: Sequence[Candidate]
    ) -> Shortlist:
        """The candidates by their scores, or by similarity if the ranker fails."""
        item_ids = [candidate.item_id for candidate in candidates]
        scores = await run.run_stage(Stage.RANK, same_release.rank(self._ranker, query, recent_items, item_ids))
        self._quality.observe(run.deadline.elapsed())
        ranked = best_first(item_ids, scores.scores) if scores else by_similarity(candidates)
        ranked_by = scores.weights_hash if scores else None
        provenance = Provenance(query=query.weights_hash, collection=candidates[0].weights_hash, rank=ranked_by)
        return Shortlist(ranked, query.release_version, provenance)

    async def _rank_given(
        self, run: RequestRun, recent_items: Sequence[str], item_ids: Sequence[str], release_version: int | None
    ) -> Shortlist:
        """The caller's candidates by their scores, or by popularity if the ranker fails."""
        scores = await run.run_stage(Stage.RANK, self._ranker.rank(recent_items, item_ids, release_version))
        if scores is None:
            return await self._fallback.by_popularity(run, item_ids)
        if not scores.personalized:
            run.degrade_to(Tier.POPULAR, "no_known_items")
        ranked = best_first(item_ids, scores.scores)
        return Shortlist(ranked, scores.release_version, Provenance(rank=scores.weights_hash))
