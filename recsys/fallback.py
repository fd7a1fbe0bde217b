"""Recommendations without a model: the user's precomputed list, popular items, or any items of the catalogue.

They also fill a page for which the model found too few items.
"""

from collections.abc import Callable, Sequence

from recsys.contracts.base import MAX_CANDIDATES
from recsys.contracts.features import PopularItem
from recsys.contracts.recommendation import PopularList, Tier
from recsys.contracts.retrieval import ServingReleases
from recsys.deadline import current_deadline
from recsys.describe import Describer
from recsys.exclusions import Exclusions
from recsys.experiment import CHALLENGER
from recsys.page import Page
from recsys.ports import Catalogue, FeatureStore
from recsys.rules import ScoredItem, Shortlist, by_popularity
from recsys.stages import RequestRun, Stage


class Fallback:
    def __init__(
        self,
        features: FeatureStore,
        catalogue: Catalogue,
        describer: Describer,
        serving: Callable[[], ServingReleases | None],
        num_candidates: int,
    ) -> None:
        self._features = features
        self._catalogue = catalogue
        self._describer = describer
        self._serving = serving
        self._num_candidates = num_candidates
        self._last_popular: list[PopularItem] = []

    async def shortlist(
        self, run: RequestRun, page: Page, user_id: str, variant: str, release_version: int | None
    ) -> Shortlist:
        """Add to the page the user's precomputed list if encode or retrieve failed, and otherwise popular items."""
        if run.tier == Tier.PRECOMPUTED:
            precomputed = await self._precomputed(run, user_id, variant, release_version or self._champion())
            await page.add(precomputed.ranked)
            if not page.is_empty:
                return precomputed
            run.degrade_to(Tier.POPULAR, "no_precomputed_list")
        return await self._popular_shortlist(run, page, release_version)

    async def by_popularity(
        self, run: RequestRun, item_ids: Sequence[str], release_version: int | None = None
    ) -> Shortlist:
        """The caller's candidates by popularity, for when the ranker fails."""
        run.degrade_to(Tier.POPULAR, "not_ranked")
        popular = await self._popular(run, Stage.POPULAR, MAX_CANDIDATES)
        return Shortlist(by_popularity(item_ids, popular), release_version or self._champion())

    async def fill(self, run: RequestRun, page: Page) -> None:
        """Fill the page with popular items, and then with any items of the catalogue, without scores.

        If the page is still not full, the response says why.
        """
        if page.missing and Stage.POPULAR not in run.timings_ms:
            if page.is_empty:
                run.degrade_to(Tier.POPULAR, "no_candidates")
            num_items = page.missing + len(page.exclusions.item_ids) + self._num_candidates
            popular = await self._popular(run, Stage.BACKFILL, num_items)
            await page.add([ScoredItem(item.item_id, None) for item in popular])
        if page.missing:
            await self._add_any(run, page)

    async def recommend_popular(self, top_k: int) -> PopularList:
        run = RequestRun(current_deadline(), Tier.POPULAR)
        page = Page(run, self._describer, Exclusions(), top_k, self._champion())
        shortlist = await self._popular_shortlist(run, page, None)
        await self.fill(run, page)
        return PopularList(
            recommendations=page.recommendations,
            release_version=shortlist.release_version,
            tier=run.tier,
            tier_reason=run.reason,
        )

    async def remember_popular(self) -> None:
        """Store the current popular items, to serve them when the feature store cannot be reached."""
        self._last_popular = await self._features.popular(MAX_CANDIDATES) or self._last_popular

    async def _add_any(self, run: RequestRun, page: Page) -> None:
        item_ids = self._catalogue.newest_item_ids
        if item_ids and page.is_empty:
            run.degrade_to(Tier.STATIC, "no_popular_items")
        for start in range(0, len(item_ids), MAX_CANDIDATES):
            await page.add([ScoredItem(item_id, None) for item_id in item_ids[start : start + MAX_CANDIDATES]])
            if not page.missing:
                return
        run.add_reason("too_few_items" if item_ids else "no_catalogue")

    async def _precomputed(self, run: RequestRun, user_id: str, variant: str, release_version: int | None) -> Shortlist:
        """The user's list; empty if there is none.

        A release may serve a list of an older one. The challenger may not, because that is the champion's.
        """
        if release_version is None:
            return Shortlist([], None)
        found = await run.run_stage(Stage.PRECOMPUTED, self._features.precomputed(user_id, release_version))
        if found is None or (variant == CHALLENGER and found.release_version != release_version):
            return Shortlist([], None)
        return Shortlist([ScoredItem(item_id, None) for item_id in found.item_ids], found.release_version)

    async def _popular_shortlist(self, run: RequestRun, page: Page, release_version: int | None) -> Shortlist:
        num_items = self._num_candidates + len(page.exclusions.item_ids)
        popular = await self._popular(run, Stage.POPULAR, num_items)
        ranked = [ScoredItem(item.item_id, item.popularity) for item in popular]
        shortlist = Shortlist(ranked, release_version or self._champion())
        await page.add(shortlist.ranked)
        return shortlist

    async def _popular(self, run: RequestRun, stage: Stage, num_items: int) -> list[PopularItem]:
        """The current popular items, or the last remembered ones if the feature store fails."""
        popular = await run.run_stage(stage, self._features.popular(min(MAX_CANDIDATES, num_items)))
        return self._last_popular if popular is None else popular

    def _champion(self) -> int | None:
        serving = self._serving()
        return serving.champion if serving else None
