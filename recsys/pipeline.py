"""A recommendation request's whole way, top to bottom. Nothing else decides the order of the stages.

features -> encode -> retrieve -> rank -> rules; what each stage does when it fails stands in `recsys.stages`.
"""

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import Retrieval
from recsys.contracts.recommendation import (
    Provenance,
    RecommendationList,
    RecommendationRequest,
    RecommendationResponse,
    Tier,
)
from recsys.contracts.retrieval import Candidate, CatalogueItem, QueryEmbedding, ServingReleases
from recsys.deadline import Deadline
from recsys.errors import ReleaseMismatch, ReleaseNotLoaded
from recsys.experiment import CHAMPION
from recsys.ports import Catalogue, FeatureStore, QueryEncoder, Ranker, VectorIndex
from recsys.quality import QualityFactor
from recsys.rules import ScoredItem, best_first, by_popularity, take_top_k, to_recommendations
from recsys.stages import RequestRun, Stage


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Scored items, best first, before the rules."""

    ranked: list[ScoredItem]
    release_version: int | None
    exclude: Collection[str] = ()
    """What must not be picked from it."""
    provenance: Provenance = field(default_factory=Provenance)


class RecommendationPipeline:
    def __init__(
        self,
        features: FeatureStore,
        encoder: QueryEncoder,
        index: VectorIndex,
        ranker: Ranker,
        catalogue: Catalogue,
        *,
        serving: Callable[[], ServingReleases | None],
        num_candidates: int,
        quality: QualityFactor,
        on_retrieved: Callable[[Retrieval], None] = lambda _: None,
    ) -> None:
        """`on_retrieved` is told of every search that succeeded; the request waits for it."""
        self._features = features
        self._encoder = encoder
        self._index = index
        self._ranker = ranker
        self._catalogue = catalogue
        self._serving = serving
        self._num_candidates = num_candidates
        self._quality = quality
        self._on_retrieved = on_retrieved
        self._last_popular: list[PopularItem] = []

    async def recommend(
        self,
        request: RecommendationRequest,
        deadline: Deadline,
        variant: str = CHAMPION,
        release_version: int | None = None,
    ) -> RecommendationResponse:
        """The answer by `release`, which plays the part of `variant`; by the ranker's champion where none is given."""
        run = RequestRun(deadline)

        user = await run.run_stage(Stage.FEATURES, self._features.user_features(request.user_id))
        user = user or UserFeatures.unknown(request.user_id)
        recent_items = [*user.recent_items, *request.session_items][-MAX_HISTORY:]
        if recent_items:
            run.tier = Tier.PERSONALIZED  # a session makes up for features that are away
        else:
            run.degrade_to(Tier.POPULAR, "unknown_user")

        if request.candidate_items is not None:
            shortlist = await self._rank_given(run, recent_items, request.candidate_items, release_version)
            considered = len(request.candidate_items)
            picked = take_top_k(shortlist.ranked, set(request.exclude_items), request.top_k)
        else:
            seen = {*user.seen_items, *user.recent_items, *request.session_items}
            unwanted = set(request.exclude_items)
            num_candidates = self._quality.part_of(self._num_candidates, at_least=request.top_k)
            shortlist = await self._retrieve_and_rank(
                run, user, recent_items, seen, unwanted, num_candidates, release_version
            )
            if shortlist.provenance.query is not None:
                self._quality.observe(deadline.elapsed())
            considered = len(shortlist.ranked)
            picked = take_top_k(shortlist.ranked, shortlist.exclude, request.top_k)
            if len(picked) < request.top_k and run.tier in (Tier.PERSONALIZED, Tier.RETRIEVED):
                picked = await self._backfill(run, picked, shortlist.exclude, request.top_k)

        described = await self._describe(run, picked, shortlist.release_version)
        run.timings_ms["total"] = round(run.deadline.elapsed() * 1000, 3)
        return RecommendationResponse(
            recommendation_id=f"{uuid.uuid4().hex}.{variant}",
            user_id=request.user_id,
            recommendations=to_recommendations(picked, described),
            total_candidates=considered,
            tier=run.tier,
            tier_reason=run.reason,
            release_version=shortlist.release_version,
            variant=variant,
            timings_ms=run.timings_ms,
            debug=shortlist.provenance if request.debug else None,
        )

    async def popular(self, top_k: int, deadline: Deadline) -> RecommendationList:
        """What everybody likes, for no one in particular."""
        run = RequestRun(deadline)
        shortlist = await self._popular(run, exclude=())
        picked = take_top_k(shortlist.ranked, (), top_k)
        described = await self._describe(run, picked, shortlist.release_version)
        return RecommendationList(
            recommendations=to_recommendations(picked, described), release_version=shortlist.release_version
        )

    async def remember_popular(self) -> None:
        """Keep the popular items for the time when nothing else can be had; called every now and then."""
        self._last_popular = await self._features.popular(MAX_CANDIDATES) or self._last_popular

    async def _retrieve_and_rank(
        self,
        run: RequestRun,
        user: UserFeatures,
        recent_items: Sequence[str],
        seen: set[str],
        unwanted: set[str],
        num_candidates: int,
        release_version: int | None,
    ) -> Shortlist:
        """`num_candidates` of the whole catalogue, ranked; after a failure the precomputed list, or else popular items.

        Whether seen items may come again is the release's policy; where that is not known they do not.
        """
        exclude = seen | unwanted
        if not recent_items:
            return await self._popular(run, exclude)
        query = await run.run_stage(Stage.ENCODE, self._encoder.encode(recent_items, release_version))
        if query is None:
            return self._precomputed(run, user, exclude) or await self._popular(run, exclude)
        if not query.exclude_seen:
            exclude = unwanted
        if query.query_embedding is None:
            run.degrade_to(Tier.POPULAR, "no_known_items")
            return await self._popular(run, exclude)
        candidates = await run.run_stage(
            Stage.RETRIEVE, self._search(query, query.query_embedding, num_candidates, exclude)
        )
        if candidates is None:
            return self._precomputed(run, user, exclude) or await self._popular(run, exclude)
        item_ids = [candidate.item_id for candidate in candidates]
        self._on_retrieved(
            Retrieval(
                query.release_version, query.weights_hash, query.query_embedding, num_candidates, exclude, item_ids
            )
        )
        if not candidates:
            run.degrade_to(Tier.POPULAR, "no_candidates")
            return await self._popular(run, exclude)
        scores = await run.run_stage(Stage.RANK, self._rank_with(query, recent_items, item_ids))
        return Shortlist(
            ranked=best_first(item_ids, scores.scores) if scores else _by_similarity(candidates),
            release_version=query.release_version,
            exclude=exclude,
            provenance=Provenance(
                query=query.weights_hash,
                collection=candidates[0].weights_hash,
                rank=scores.weights_hash if scores else None,
            ),
        )

    async def _rank_given(
        self, run: RequestRun, recent_items: Sequence[str], candidate_items: Sequence[str], release_version: int | None
    ) -> Shortlist:
        """The caller's own candidates, ranked; by popularity where the ranker cannot be had."""
        scores = await run.run_stage(Stage.RANK, self._ranker.rank(recent_items, candidate_items, release_version))
        if scores is None:
            run.tier = Tier.POPULAR  # not `retrieved`: nothing was
            popular = await self._popular_items(run, Stage.POPULAR, MAX_CANDIDATES)
            return Shortlist(by_popularity(candidate_items, popular), self._champion())
        if not scores.personalized:
            run.degrade_to(Tier.POPULAR, "no_known_items")
        ranked = best_first(candidate_items, scores.scores)
        return Shortlist(ranked, scores.release_version, provenance=Provenance(rank=scores.weights_hash))

    async def _search(
        self, query: QueryEmbedding, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str]
    ) -> list[Candidate]:
        """Candidates from the collection of the query's own weights. Raises `ReleaseMismatch` where it has others."""
        candidates = await self._index.search(query.release_version, query_embedding, num_candidates, exclude)
        if candidates and candidates[0].weights_hash != query.weights_hash:
            raise ReleaseMismatch(
                f"the query of release {query.release_version} is by the weights {query.weights_hash}, "
                f"its collection by {candidates[0].weights_hash}"
            )
        return candidates

    async def _rank_with(
        self, query: QueryEmbedding, recent_items: Sequence[str], item_ids: Sequence[str]
    ) -> RankedScores:
        scores = await self._ranker.rank(recent_items, item_ids, query.release_version)
        if scores.weights_hash != query.weights_hash:
            raise ReleaseMismatch(
                f"the query of release {query.release_version} is by the weights {query.weights_hash}, "
                f"its scores by {scores.weights_hash}"
            )
        return scores

    def _precomputed(self, run: RequestRun, user: UserFeatures, exclude: Collection[str]) -> Shortlist | None:
        """What was computed ahead for the user, unless the serving release knows other items than the list."""
        serving = self._serving()
        ahead = user.precomputed
        if ahead is None or serving is None or ahead.vocabulary_hash != serving.vocabulary_hash:
            run.degrade_to(Tier.POPULAR, "no_precomputed_list")
            return None
        run.degrade_to(Tier.PRECOMPUTED, "precomputed")
        return Shortlist([ScoredItem(item_id, None) for item_id in ahead.item_ids], ahead.release_version, exclude)

    async def _popular(self, run: RequestRun, exclude: Collection[str]) -> Shortlist:
        popular = await self._popular_items(run, Stage.POPULAR, self._num_candidates + len(exclude))
        ranked = [ScoredItem(item.item_id, item.popularity) for item in popular]
        return Shortlist(ranked, self._champion(), exclude)

    async def _popular_items(self, run: RequestRun, stage: Stage, depth: int) -> list[PopularItem]:
        """The popular items of now or, where the feature store is away, the last that were seen."""
        popular = await run.run_stage(stage, self._features.popular(min(MAX_CANDIDATES, depth)))
        return self._last_popular if popular is None else popular

    def _champion(self) -> int | None:
        serving = self._serving()
        return serving.champion if serving else None

    async def _backfill(
        self, run: RequestRun, picked: list[ScoredItem], exclude: Collection[str], top_k: int
    ) -> list[ScoredItem]:
        """Popular items below the picked ones, without a score, as theirs would not compare."""
        popular = await self._popular_items(run, Stage.BACKFILL, top_k + len(exclude) + len(picked))
        return take_top_k([*picked, *(ScoredItem(item.item_id, None) for item in popular)], exclude, top_k)

    async def _describe(
        self, run: RequestRun, picked: Sequence[ScoredItem], release_version: int | None
    ) -> dict[str, CatalogueItem]:
        """Titles and metadata of the picked items."""
        if not picked or release_version is None:
            return {}
        item_ids = [item.item_id for item in picked]
        return await run.run_stage(Stage.DESCRIBE, self._described(release_version, item_ids)) or {}

    async def _described(self, release_version: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        """By the champion's catalogue if the release has none here: a list computed ahead outlives its release."""
        try:
            return await self._catalogue.items(release_version, item_ids)
        except ReleaseNotLoaded:
            champion = self._champion()
            if champion is None or champion == release_version:
                raise
            return await self._catalogue.items(champion, item_ids)


def _by_similarity(candidates: Sequence[Candidate]) -> list[ScoredItem]:
    return [ScoredItem(candidate.item_id, candidate.similarity) for candidate in candidates]
