"""The describe stage: adds titles and metadata to the picked items."""

from collections.abc import Callable, Sequence

from recsys.contracts.recommendation import Recommendation
from recsys.contracts.retrieval import CatalogueItem, ServingReleases
from recsys.errors import ReleaseNotLoaded
from recsys.ports import Catalogue
from recsys.rules import ScoredItem, to_recommendations
from recsys.stages import RequestRun, Stage


class Describer:
    def __init__(self, catalogue: Catalogue, serving: Callable[[], ServingReleases | None]) -> None:
        self._catalogue = catalogue
        self._serving = serving

    async def describe(
        self, run: RequestRun, picked: Sequence[ScoredItem], release_version: int | None
    ) -> list[Recommendation]:
        """The picked items as recommendations. They have no titles if the stage fails or there is no release."""
        if not picked or release_version is None:
            return to_recommendations(picked, {})
        item_ids = [item.item_id for item in picked]
        described = await run.run_stage(Stage.DESCRIBE, self._catalogue_items(release_version, item_ids))
        return to_recommendations(picked, described or {})

    async def _catalogue_items(self, release_version: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        """From the champion's catalogue if the release is not loaded: a precomputed list can outlive its release."""
        try:
            return await self._catalogue.items(release_version, item_ids)
        except ReleaseNotLoaded:
            serving = self._serving()
            if serving is None or serving.champion == release_version:
                raise
            return await self._catalogue.items(serving.champion, item_ids)
