"""What the orchestrator learns ahead of requests: which releases serve, and what is popular."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from recsys.contracts.retrieval import ServingReleases
from recsys.errors import ReleaseError, UpstreamError
from recsys.ports import QueryEncoder

OK = "ok"

log = structlog.get_logger()


class Lookout:
    """Repeats its look-ups for as long as it runs; what was found last stays valid while an upstream is away."""

    def __init__(
        self, encoder: QueryEncoder, open_collection: Callable[[int], Awaitable[None]], refresh_seconds: float
    ) -> None:
        self._encoder = encoder
        self._open_collection = open_collection
        self._refresh_seconds = refresh_seconds
        self.releases: ServingReleases | None = None
        """What is whole: loaded by the ranker, with its collection open."""
        self.dependencies = dict.fromkeys(("ranker", "index", "feature_service"), "not asked yet")
        """`ok`, or what is wrong, by name."""

    @property
    def champion(self) -> int | None:
        return self.releases.champion if self.releases else None

    @property
    def challenger(self) -> int | None:
        return self.releases.challenger if self.releases else None

    async def run(self, remember_popular: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await self._look("ranker", self._find_releases)
                await self._look("feature_service", remember_popular)
            except Exception:
                log.exception("look_out_failed")  # a mistake of ours; the next round may do better than none at all
            await asyncio.sleep(self._refresh_seconds)

    async def _find_releases(self) -> None:
        """Take over what the ranker has, a role at a time: a release whose collection cannot be opened leaves the one
        before in its role."""
        found = await self._encoder.releases()
        if found == self.releases and self.dependencies["index"] == OK:
            return
        if found.challenger is not None and not await self._look(
            "index", partial(self._open_collection, found.challenger)
        ):
            found = found.model_copy(update={"challenger": None})
        if await self._look("index", partial(self._open_collection, found.champion)) and found != self.releases:
            self.releases = found
            log.info("releases_found", champion=found.champion, challenger=found.challenger)

    async def _look(self, name: str, look: Callable[[], Awaitable[None]]) -> bool:
        try:
            await look()
        except (UpstreamError, ReleaseError) as error:
            if str(error) != self.dependencies[name]:
                log.warning("dependency_missing", name=name, problem=str(error), cause=repr(error.__cause__))
            self.dependencies[name] = str(error)
            return False
        self.dependencies[name] = OK
        return True
