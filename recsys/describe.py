"""The describe stage: titles and metadata of items."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from recsys.contracts.retrieval import CatalogueItem, ServingReleases
from recsys.errors import ReleaseNotLoaded
from recsys.ports import Catalogue
from recsys.stages import RequestRun, Stage


class Describer:
    def __init__(self, catalogue: Catalogue, serving: Callable[[], ServingReleases | None]) -> None:
        self._catalogue = catalogue
        self._serving = serving

    async def describe(
        self, run: RequestRun, item_ids: Sequence[str], release_version: int | None
    ) -> dict[str, CatalogueItem] | None:
        """Those of the items that the catalogue knows, by id; None if the stage fails, as without a catalogue."""
        return await run.run_stage(Stage.DESCRIBE, self._items(item_ids, release_version))

    async def _items(self, item_ids: Sequence[str], release_version: int | None) -> dict[str, CatalogueItem]:
        """From the catalogue of the release, or else of the champion, or else of the most recently loaded release.

        A catalogue is loaded before its collection is opened, so there are titles even if no release is ready to serve.
        """
        serving = self._serving()
        for version in (release_version, serving.champion if serving else None):
            if version is not None:
                with suppress(ReleaseNotLoaded):
                    return await self._catalogue.items(version, item_ids)
        return await self._catalogue.items(None, item_ids)
