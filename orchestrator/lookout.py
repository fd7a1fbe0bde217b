"""What the orchestrator learns ahead of requests: which release serves, and what is popular."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

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
        self.release: int | None = None
        self.dependencies = dict.fromkeys(("ranker", "index", "feature_service"), "not asked yet")
        """`ok`, or what is wrong, by name."""

    async def run(self, remember_popular: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._look("ranker", self._find_release)
            await self._look("feature_service", remember_popular)
            await asyncio.sleep(self._refresh_seconds)

    async def _find_release(self) -> None:
        release = await self._encoder.serving_release()
        if release != self.release or self.dependencies["index"] != OK:
            await self._look("index", lambda: self._open_collection(release))
            log.info("release_found", release=release, before=self.release, index=self.dependencies["index"])
            self.release = release

    async def _look(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
            self.dependencies[name] = OK
        except (UpstreamError, ReleaseError) as error:
            self.dependencies[name] = str(error)
