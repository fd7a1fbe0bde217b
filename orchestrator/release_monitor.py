"""Keeps the serving releases and the popular items up to date, off the request path."""

import asyncio
from collections.abc import Awaitable, Callable, Container

import structlog
from prometheus_client import Gauge

from orchestrator.dependencies import Dependencies
from recsys.adapters.qdrant_points import collection_name
from recsys.adapters.release_catalogue import ReleaseCatalogue
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds
from recsys.contracts.retrieval import ServingReleases
from recsys.errors import ReleaseError, ReleaseNotLoaded, UpstreamError
from recsys.ports import ReleaseSource, VectorIndex
from recsys.ramp import EVERYBODY, gets_champion
from recsys.web.readiness import OK

RANKER, INDEX, FEATURE_SERVICE = "ranker", "index", "feature_service"

CHAMPION_PERCENT = Gauge(
    "tandem_champion_percent", "The champion's share of the users; below 100 while a promotion ramps."
)
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
        self._knows_popular = False
        self.releases: ServingReleases | None = None
        """Releases that are ready to serve: loaded by the ranker, with their catalogue and collection open here."""
        self.dependencies = Dependencies(RANKER, INDEX, FEATURE_SERVICE, check_seconds=refresh_seconds)

    @property
    def champion(self) -> int | None:
        return self.releases.champion if self.releases else None

    @property
    def challenger(self) -> int | None:
        return self.releases.challenger if self.releases else None

    @property
    def holdback(self) -> int | None:
        return self.releases.holdback if self.releases else None

    def is_held_back(self, user_id: str) -> bool:
        """Whether the user still gets the release before the champion, because the promotion ramps."""
        releases = self.releases
        if releases is None or releases.champion is None or releases.holdback is None:
            return False
        return not gets_champion(user_id, releases.champion, releases.champion_percent)

    @property
    def event_kinds(self) -> EventKinds:
        """What kinds of events mean to the champion; without one, the default."""
        return self.releases.event_kinds if self.releases else DEFAULT_KINDS

    @property
    def can_serve(self) -> bool:
        """Whether there is anything to recommend, or events can be recorded. Once true, it stays true."""
        has_items = self.releases is not None or bool(self._catalogue.newest_item_ids)
        return self.dependencies.all_checked and (has_items or self._knows_popular)

    async def run(self, remember_popular: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.refresh(remember_popular)
            await asyncio.sleep(self._refresh_seconds)

    async def refresh(self, remember_popular: Callable[[], Awaitable[None]]) -> None:
        await self.dependencies.check(RANKER, self._refresh_releases)
        self._knows_popular |= await self.dependencies.check(FEATURE_SERVICE, remember_popular)
        self.dependencies.finish()

    async def _refresh_releases(self) -> str:
        """Take over the ranker's releases, one role at a time. If a release cannot be opened, its role keeps the
        previous release. Returns the ranker's problems."""
        found = await self._source.releases()
        champion, ranker_problems = found.champion, "; ".join(found.problems)
        if champion is None:
            reason = ranker_problems or "train, register, index and promote one"
            raise ReleaseNotLoaded(f"no release is loaded: {reason}")
        found = found.model_copy(update={"problems": []})  # compared below
        problems: dict[str, Exception | None] = {}
        if found.challenger is not None and not await self._open(found, found.challenger, problems):
            found = found.model_copy(update={"challenger": None})
        if found.holdback is not None and not await self._open(found, found.holdback, problems):
            found = found.model_copy(update={"holdback": None, "champion_percent": EVERYBODY})
        if await self._open(found, champion, problems):
            if found != self.releases:
                log.info(
                    "releases_found",
                    champion=champion,
                    challenger=found.challenger,
                    holdback=found.holdback,
                    champion_percent=found.champion_percent,
                )
            self.releases = found
            CHAMPION_PERCENT.set(found.champion_percent)
        elif self.releases and self.champion and self.champion != champion:
            await self._open(self.releases, self.champion, problems)  # it stays one of the most recently opened
        self.dependencies.report(INDEX, "; ".join(problems) or OK, next(iter(problems.values()), None))
        serving = self.releases or found
        self._remove_metrics(
            {*(champion, found.challenger, found.holdback), *(serving.champion, serving.challenger, serving.holdback)}
        )
        return ranker_problems

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


def _never_verified(version: int) -> ReleaseNotLoaded:
    name = collection_name(version)
    return ReleaseNotLoaded(
        f"release {version} was never verified; run `make index` to build and verify its collection {name}"
    )
