"""What the orchestrator learns ahead of requests: which releases serve, and what is popular."""

import asyncio
from collections.abc import Awaitable, Callable, Container

import structlog
from prometheus_client import Gauge

from recsys.adapters.qdrant_points import collection_name
from recsys.adapters.release_catalogue import ReleaseCatalogue
from recsys.contracts.retrieval import ServingReleases
from recsys.errors import ReleaseError, ReleaseNotLoaded, UpstreamError
from recsys.ports import ReleaseSource, VectorIndex

OK = "ok"

INDEXED = Gauge(
    "tandem_collection_indexed", "Whether the collection has the graph that it is searched by.", ["release"]
)

log = structlog.get_logger()


class ReleaseMonitor:
    """Repeats its look-ups for as long as it runs; what was found last stays valid while an upstream is away."""

    def __init__(
        self, source: ReleaseSource, index: VectorIndex, catalogue: ReleaseCatalogue, refresh_seconds: float
    ) -> None:
        self._source = source
        self._index = index
        self._catalogue = catalogue
        self._refresh_seconds = refresh_seconds
        self._watched: set[int] = set()
        self.releases: ServingReleases | None = None
        """What is whole: loaded by the ranker, described here, with its collection open."""
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
        """Take over what the ranker has, a role at a time: a release that cannot be opened leaves the one before in
        its role."""
        found = await self._source.releases()
        problems: dict[str, Exception | None] = {}
        if found.challenger is not None and not await self._open(found, found.challenger, problems):
            found = found.model_copy(update={"challenger": None})
        if await self._open(found, found.champion, problems) and found != self.releases:
            self.releases = found
            log.info("releases_found", champion=found.champion, challenger=found.challenger)
        self._set("index", "; ".join(problems) or OK, next(iter(problems.values()), None))
        self._forget_others({found.champion, found.challenger, self.champion, self.challenger})

    async def _open(self, found: ServingReleases, version: int, problems: dict[str, Exception | None]) -> bool:
        """Get a release ready to serve, or see that it still is. Adds what is wrong to `problems`."""
        try:
            settings = found.search.get(version)
            if settings is None:
                raise _never_verified(version)
            item_ids = await self._catalogue.load(version, found.weights_hashes.get(version, ""))
            await self._index.open(version, item_ids, settings)
            status = await self._index.status(version)
        except (UpstreamError, ReleaseError) as error:
            problems[str(error)] = error
            return False
        indexed = settings.exact or status.is_indexed(settings.num_vectors)
        INDEXED.labels(version).set(indexed)
        self._watched.add(version)
        if not indexed:  # right, but slow
            counts = f"{status.num_indexed:,} of {settings.num_vectors or status.num_points:,} vectors"
            problems[f"collection {collection_name(version)} is not indexed: {counts}"] = None
        return True

    def _forget_others(self, serving: Container[int | None]) -> None:
        """A release that serves no more would be told of as it last was, for ever."""
        for version in [version for version in self._watched if version not in serving]:
            INDEXED.remove(str(version))
            self._watched.remove(version)

    async def _look(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except (UpstreamError, ReleaseError) as error:
            self._set(name, str(error), error)
        else:
            self._set(name, OK)

    def _set(self, name: str, state: str, error: Exception | None = None) -> None:
        if state not in (OK, self.dependencies[name]):
            cause = repr(error.__cause__) if error else None
            log.warning("dependency_missing", name=name, problem=state, cause=cause)
        self.dependencies[name] = state


def _never_verified(version: int) -> ReleaseNotLoaded:
    name = collection_name(version)
    return ReleaseNotLoaded(f"release {version} was never verified; run `make index` for its collection {name}")
