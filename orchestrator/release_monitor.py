"""Keeps the serving releases and the popular items up to date, off the request path."""

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

INDEXED = Gauge("tandem_collection_indexed", "Whether the collection's graph is complete.", ["release"])

log = structlog.get_logger()


class ReleaseMonitor:
    """Refreshes its state periodically. If an upstream cannot be reached, the last known state stays valid."""

    def __init__(
        self, source: ReleaseSource, index: VectorIndex, catalogue: ReleaseCatalogue, refresh_seconds: float
    ) -> None:
        self._source = source
        self._index = index
        self._catalogue = catalogue
        self._refresh_seconds = refresh_seconds
        self._watched: set[int] = set()
        self.releases: ServingReleases | None = None
        """Releases that are ready to serve: loaded by the ranker, with their catalogue and collection open here."""
        self.dependencies = dict.fromkeys(("ranker", "index", "feature_service"), "not checked yet")
        """`ok`, or the problem, by name of the dependency."""

    @property
    def champion(self) -> int | None:
        return self.releases.champion if self.releases else None

    @property
    def challenger(self) -> int | None:
        return self.releases.challenger if self.releases else None

    async def run(self, remember_popular: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await self._refresh("ranker", self._refresh_releases)
                await self._refresh("feature_service", remember_popular)
            except Exception:
                log.exception("refresh_failed")  # a bug; the next refresh may still succeed
            await asyncio.sleep(self._refresh_seconds)

    async def _refresh_releases(self) -> None:
        """Take over the ranker's releases, one role at a time. If a release cannot be opened, its role keeps the
        previous release."""
        found = await self._source.releases()
        problems: dict[str, Exception | None] = {}
        if found.challenger is not None and not await self._open(found, found.challenger, problems):
            found = found.model_copy(update={"challenger": None})
        if await self._open(found, found.champion, problems) and found != self.releases:
            self.releases = found
            log.info("releases_found", champion=found.champion, challenger=found.challenger)
        self._set("index", "; ".join(problems) or OK, next(iter(problems.values()), None))
        self._remove_metrics({found.champion, found.challenger, self.champion, self.challenger})

    async def _open(self, found: ServingReleases, version: int, problems: dict[str, Exception | None]) -> bool:
        """Prepare a release for serving, or check that it is still ready. Adds any problem to `problems`."""
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
        if not indexed:  # correct, but slow
            counts = f"{status.num_indexed:,} of {settings.num_vectors or status.num_points:,} vectors"
            problems[f"collection {collection_name(version)} is not indexed: {counts}"] = None
        return True

    def _remove_metrics(self, serving: Container[int | None]) -> None:
        """Remove the metrics of releases that no longer serve; otherwise their last values stay forever."""
        for version in [version for version in self._watched if version not in serving]:
            INDEXED.remove(str(version))
            self._watched.remove(version)

    async def _refresh(self, name: str, refresh: Callable[[], Awaitable[None]]) -> None:
        try:
            await refresh()
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
    return ReleaseNotLoaded(
        f"release {version} was never verified; run `make index` to build and verify its collection {name}"
    )
