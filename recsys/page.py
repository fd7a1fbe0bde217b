"""The page of a response, filled from one or more lists of items."""

from collections.abc import Sequence
from itertools import islice

from recsys.contracts.recommendation import Recommendation
from recsys.contracts.retrieval import CatalogueItem
from recsys.describe import Describer
from recsys.exclusions import Exclusions
from recsys.rules import ScoredItem, to_recommendations
from recsys.stages import RequestRun


class Page:
    """Holds no excluded and no repeated items, and no items that the catalogue does not know, so all have titles.

    While no catalogue is loaded, every item may be shown, without a title.
    """

    def __init__(
        self,
        run: RequestRun,
        describer: Describer,
        exclusions: Exclusions,
        top_k: int,
        release_version: int | None,
        *,
        known_only: bool = True,
    ) -> None:
        """`release_version` describes the items. Without `known_only`, items that it does not know are also shown."""
        self.exclusions = exclusions
        self._run = run
        self._describer = describer
        self._top_k = top_k
        self._release_version = release_version
        self._known_only = known_only
        self._picked: dict[str, ScoredItem] = {}
        self._described: dict[str, CatalogueItem] = {}
        self._has_catalogue = True

    @property
    def is_empty(self) -> bool:
        return not self._picked

    @property
    def missing(self) -> int:
        """The number of items until the page is full."""
        return self._top_k - len(self._picked)

    @property
    def recommendations(self) -> list[Recommendation]:
        return to_recommendations(list(self._picked.values()), self._described)

    @property
    def length(self) -> int:
        return len(self._picked)

    def replace(self, place: int, item: ScoredItem) -> None:
        """Show another item at a place, which counts from 0. `left_over` returned the item."""
        picked = list(self._picked.values())
        picked[place] = item
        self._picked = {each.item_id: each for each in picked}

    async def left_over(self, ranked: Sequence[ScoredItem]) -> Sequence[ScoredItem]:
        """Those of the items, which were added, that may be shown and that the page has no room for."""
        return await self._known([item for item in ranked if self._is_allowed(item)])

    async def add(self, ranked: Sequence[ScoredItem]) -> None:
        """Add items, best first, until the page is full."""
        if not self.missing:
            return
        await self.exclusions.look_up(self._run, (item.item_id for item in ranked))
        allowed = filter(self._is_allowed, ranked)
        batch_size = self.missing
        while self.missing and (batch := list(islice(allowed, batch_size))):
            for item in await self._known(batch):
                if self.missing:
                    self._picked.setdefault(item.item_id, item)
            batch_size *= 2  # so that many unknown items take few rounds

    def _is_allowed(self, item: ScoredItem) -> bool:
        return item.item_id not in self.exclusions and item.item_id not in self._picked

    async def _known(self, items: Sequence[ScoredItem]) -> Sequence[ScoredItem]:
        described = None
        if self._has_catalogue:
            item_ids = [item.item_id for item in items]
            described = await self._describer.describe(self._run, item_ids, self._release_version)
        if described is None:
            self._has_catalogue = False
            return items
        self._described |= described
        return [item for item in items if item.item_id in described] if self._known_only else items
