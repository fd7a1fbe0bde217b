"""Recommendations without a model: the user's precomputed list, or popular items."""

from collections.abc import Callable, Sequence

from recsys.contracts.base import MAX_CANDIDATES
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.recommendation import RecommendationList, Tier
from recsys.contracts.retrieval import ServingReleases
from recsys.deadline import current_deadline
from recsys.describe import Describer
from recsys.ports import FeatureStore
from recsys.rules import Exclusions, ScoredItem, Shortlist, by_popularity, take_top_k
from recsys.stages import RequestRun, Stage


class Fallback:
    def __init__(
        self,
        features: FeatureStore,
        describer: Describer,
        serving: Callable[[], ServingReleases | None],
        num_candidates: int,
    ) -> None:
        self._features = features
        self._describer = describer
        self._serving = serving
        self._num_candidates = num_candidates
        self._last_popular: list[PopularItem] = []

    async def shortlist(self, run: RequestRun, user: UserFeatures, exclusions: Exclusions) -> Shortlist:
        """The precomputed list if encode or retrieve failed and the list fits the champion; otherwise popular items."""
        if run.tier == Tier.PRECOMPUTED:
            champion, precomputed = self._champion(), None
            if champion is not None:
                precomputed = await run.run_stage(Stage.BACKFILL, self._features.precomputed(user.user_id, champion))
            if precomputed:
                ranked = [ScoredItem(item_id, None) for item_id in precomputed.item_ids]
                return Shortlist(ranked, precomputed.release_version)
            run.degrade_to(Tier.POPULAR, "no_precomputed_list")
        return await self._popular_shortlist(run, exclusions)

    async def by_popularity(self, run: RequestRun, item_ids: Sequence[str]) -> Shortlist:
        """The caller's candidates by popularity, for when the ranker fails."""
        run.degrade_to(Tier.POPULAR, "not_ranked")
        popular = await self._popular(run, Stage.POPULAR, MAX_CANDIDATES)
        return Shortlist(by_popularity(item_ids, popular), self._champion())

    async def backfill(
        self, run: RequestRun, picked: Sequence[ScoredItem], exclusions: Exclusions, top_k: int
    ) -> list[ScoredItem]:
        """The picked items, then popular ones up to `top_k`. These have no score: popularity is not comparable."""
        exclude = exclusions.item_ids
        popular = await self._popular(run, Stage.BACKFILL, top_k + len(exclude) + len(picked))
        return take_top_k([*picked, *(ScoredItem(item.item_id, None) for item in popular)], exclude, top_k)

    async def recommend_popular(self, top_k: int) -> RecommendationList:
        run = RequestRun(current_deadline())
        shortlist = await self._popular_shortlist(run, Exclusions())
        picked = take_top_k(shortlist.ranked, (), top_k)
        recommendations = await self._describer.describe(run, picked, shortlist.release_version)
        return RecommendationList(recommendations=recommendations, release_version=shortlist.release_version)

    async def remember_popular(self) -> None:
        """Store the current popular items, to serve them when the feature store cannot be reached."""
        self._last_popular = await self._features.popular(MAX_CANDIDATES) or self._last_popular

    async def _popular_shortlist(self, run: RequestRun, exclusions: Exclusions) -> Shortlist:
        popular = await self._popular(run, Stage.POPULAR, self._num_candidates + len(exclusions.item_ids))
        return Shortlist([ScoredItem(item.item_id, item.popularity) for item in popular], self._champion())

    async def _popular(self, run: RequestRun, stage: Stage, num_items: int) -> list[PopularItem]:
        """The current popular items, or the last remembered ones if the feature store fails."""
        popular = await run.run_stage(stage, self._features.popular(min(MAX_CANDIDATES, num_items)))
        return self._last_popular if popular is None else popular

    def _champion(self) -> int | None:
        serving = self._serving()
        return serving.champion if serving else None
