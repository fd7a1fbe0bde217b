"""The stages of a recommendation, in their order: features -> encode -> retrieve -> rank -> describe.

`recsys.stages` says how long each stage may take and what its failure costs; `recsys.fallback` serves without a model,
and `recsys.page` leaves out what must not be shown.
"""

from collections.abc import Callable, Sequence

from recsys import same_release
from recsys.candidates import Found, of_other_sources, within_budget
from recsys.contracts.base import EVALUATION_PLACEMENT, MAX_HISTORY
from recsys.contracts.features import UserFeatures
from recsys.contracts.recall import Retrieval
from recsys.contracts.recommendation import (
    DebugInfo,
    Exploration,
    PopularList,
    RecommendationRequest,
    RecommendationResponse,
    Tier,
)
from recsys.contracts.retrieval import QueryEmbedding, ServingReleases
from recsys.deadline import current_deadline
from recsys.describe import Describer
from recsys.exclusions import Exclusions, seen_items
from recsys.experiment import CHAMPION, new_recommendation_id
from recsys.exploration import explore
from recsys.fallback import Fallback
from recsys.page import Page
from recsys.ports import Catalogue, FeatureStore, QueryEncoder, Ranker, VectorIndex
from recsys.quality import QualityFactor
from recsys.ranking import rank_given, rank_retrieved
from recsys.rules import Shortlist
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
        explore_share: float = 0.0,
        on_retrieved: Callable[[Retrieval], None] = lambda _: None,
    ) -> None:
        """`explore_share`: of the pages may show random draws. `on_retrieved` is called after every successful search,
        and the request waits for it."""
        self._features = features
        self._encoder = encoder
        self._index = index
        self._ranker = ranker
        self._num_candidates = num_candidates
        self._quality = quality
        self._explore_share = explore_share
        self._on_retrieved = on_retrieved
        self._describer = Describer(catalogue, serving)
        self._fallback = Fallback(features, catalogue, self._describer, serving, num_candidates)

    async def recommend(
        self,
        request: RecommendationRequest,
        variant: str = CHAMPION,
        release_version: int | None = None,
        *,
        shadow: bool = False,
    ) -> RecommendationResponse:
        """Recommend with the release that serves `variant`: `release_version`, by default the ranker's champion.

        A `shadow` request has no effect on the quality factor, because no caller waits for it. Neither it nor one that
        measures is explored.
        """
        run = RequestRun(current_deadline())
        recommendation_id = new_recommendation_id(variant)
        exploration: Exploration | None = None

        user = await run.run_stage(Stage.FEATURES, self._features.user_features(request.user_id))
        user = user or UserFeatures.unknown(request.user_id)
        recent_items = [*user.recent_items, *request.session_items][-MAX_HISTORY:]
        if not recent_items:
            run.degrade_to(Tier.POPULAR, "unknown_user")
        found = Found()

        if request.candidate_items is not None:
            exclusions = Exclusions(set(request.exclude_items))  # the caller chose the items, seen or not
            page = Page(run, self._describer, exclusions, request.top_k, release_version, known_only=False)
            given = request.candidate_items
            shortlist = await rank_given(run, self._ranker, self._fallback, recent_items, given, release_version)
            await page.add(shortlist.ranked)
        else:
            query = await self._encode(run, request, user, recent_items, release_version)
            encoded_by = query.release_version if query else release_version
            exclusions = Exclusions.of(request, user, query, self._features)
            page = Page(run, self._describer, exclusions, request.top_k, encoded_by)
            found = await self._retrieve(run, query, exclusions, request.top_k)
            if query and found.retrieved:
                shortlist = await rank_retrieved(run, self._ranker, query, recent_items, found, exclusions)
                await page.add(shortlist.ranked)
                shown = not shadow and request.placement != EVALUATION_PLACEMENT
                if self._explore_share and shown and run.tier == Tier.PERSONALIZED:
                    exploration = await explore(page, shortlist.ranked, self._explore_share, recommendation_id)
            else:
                shortlist = await self._fallback.shortlist(run, page, user.user_id, variant, release_version)
            if not shadow:
                self._quality.observe(run)
            await self._fallback.fill(run, page)

        return RecommendationResponse(
            recommendation_id=recommendation_id,
            user_id=request.user_id,
            recommendations=page.recommendations,
            total_candidates=len(shortlist.ranked),
            tier=run.tier,
            tier_reason=run.reason,
            release_version=shortlist.release_version,
            variant=variant,
            timings_ms=run.finish(),
            debug=_debug_info(shortlist, found, page, exploration) if request.debug else None,
            exploration=exploration,
        )

    async def popular(self, top_k: int) -> PopularList:
        """Popular items, the same for every user."""
        return await self._fallback.recommend_popular(top_k)

    async def remember_popular(self) -> None:
        await self._fallback.remember_popular()

    async def _encode(
        self,
        run: RequestRun,
        request: RecommendationRequest,
        user: UserFeatures,
        recent_items: Sequence[str],
        release_version: int | None,
    ) -> QueryEmbedding | None:
        if not recent_items:
            return None
        unseen = list(set(user.recent_items) - seen_items(request, user))
        query = await run.run_stage(Stage.ENCODE, self._encoder.encode(recent_items, release_version, unseen))
        if query is not None and query.query_embedding is None:
            run.degrade_to(Tier.POPULAR, "no_known_items")
        return query

    async def _retrieve(
        self, run: RequestRun, query: QueryEmbedding | None, exclusions: Exclusions, top_k: int
    ) -> Found:
        """The candidates of the index, and those of the release's other sources; both together are bounded."""
        if query is None or query.query_embedding is None:
            return Found()
        at_least = top_k if exclusions.complete else 2 * top_k  # some candidates may turn out to be seen
        in_all, exclude = self._quality.scale(self._num_candidates, at_least), exclusions.item_ids
        by_source = within_budget(query.other_candidates, in_all)
        others = of_other_sources(by_source.values(), exclude)
        num_candidates = max(min(at_least, in_all), in_all - len(others))
        search = same_release.search(self._index, query, query.query_embedding, num_candidates, exclude)
        candidates = await run.run_stage(Stage.RETRIEVE, search)
        if candidates is None:
            return Found()
        nearest = [candidate.item_id for candidate in candidates]
        self._on_retrieved(
            Retrieval(
                query.release_version, query.weights_hash, query.query_embedding, num_candidates, exclude, nearest
            )
        )
        if not candidates:
            run.degrade_to(Tier.POPULAR, "no_candidates")
        return Found(candidates, others, by_source)


def _debug_info(shortlist: Shortlist, found: Found, page: Page, exploration: Exploration | None) -> DebugInfo:
    sources = found.sources_of(each.item_id for each in page.recommendations)
    explored = exploration.positions if exploration else []
    return DebugInfo(**shortlist.provenance.model_dump(), sources=sources, explored_positions=explored)
