"""The ranker's composition root: loads the releases that the registry's aliases name, and follows their changes."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog
import torch
from prometheus_client import Counter, Gauge

from ranker_service.settings import RankerSettings
from recsys.adapters.local_ranker import LocalRanker
from recsys.contracts.retrieval import SearchSettings
from recsys.errors import ReleaseError, UpstreamError
from recsys.gc_tuning import tune_garbage_collection
from recsys.model.local_releases import LocalReleases
from recsys.model.registry import CHALLENGER, CHAMPION, NEXT, PREVIOUS, ModelRegistry

WATCHED = (CHAMPION, NEXT, CHALLENGER, PREVIOUS)
"""In the order of loading."""
SERVING = Gauge("tandem_release", "The release version that has each role.", ["role"], multiprocess_mode="mostrecent")
FAILURES = Counter("tandem_release_failures_total", "Attempts to load a release that failed.")
# A release that fails to load must not stop the serving one, not even when memory (torch raises RuntimeError) or the
# disk is full.
LOAD_ERRORS = (UpstreamError, ReleaseError, OSError, MemoryError, RuntimeError)

T = TypeVar("T")

log = structlog.get_logger()


class ReleaseWatch:
    """Loads the releases that the aliases name while the old ones serve, and switches when they are warm.

    After a failure the old releases keep serving, and `problems` describes it until it is resolved. `problems` is
    public, so it contains no addresses or paths; the log has the details.
    """

    def __init__(self, settings: RankerSettings, ranker: LocalRanker) -> None:
        self._ranker = ranker
        self._directory = settings.releases_dir
        self._releases = LocalReleases(settings.releases_dir, ModelRegistry(settings.mlflow_tracking_uri))
        self._poll_seconds = settings.poll_seconds
        # One thread, so that loading takes at most one core from requests.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="releases")
        self._known: dict[str, int] = {}
        self._search: dict[int, SearchSettings] | None = None

    @property
    def problems(self) -> list[str]:
        return self._ranker.problems

    async def run(self) -> None:
        while True:
            problems = await self._update()
            for problem in problems.keys() - set(self._ranker.problems):
                detail = str(problems[problem])
                log.warning("release_not_loaded", problem=problem, detail=detail, champion=self._ranker.champion)
            self._ranker.problems = list(problems)
            await asyncio.sleep(self._poll_seconds)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _update(self) -> dict[str, Exception]:
        """Follow the aliases once. Returns the errors by their public description."""
        problems: dict[str, Exception] = {}
        try:
            aliases = await self._in_thread(self._releases.aliases)
        except UpstreamError as error:
            problems[self._public_message(error)] = error
            aliases = self._known or await self._in_thread(self._releases.last_aliases)
        named = {alias: aliases[alias] for alias in WATCHED if alias in aliases}
        for version in dict.fromkeys(named.values()):
            if version in self._ranker.loaded:
                continue
            try:
                self._ranker.add(await self._in_thread(self._releases.load, version))
                log.info("release_loaded", release=version)
            except LOAD_ERRORS as error:
                FAILURES.inc()
                problems[f"release {version}: {self._public_message(error)}"] = error
        await self._refresh_search(named.values(), problems)
        await self._set_roles(named)
        return problems

    async def _refresh_search(self, versions: Collection[int], problems: dict[str, Exception]) -> None:
        """Read the search settings of each version again: its collection may have been rebuilt with others."""
        search = dict(self._search if self._search is not None else await self._in_thread(self._releases.last_search))
        for version in dict.fromkeys(versions):
            try:
                settings = await self._in_thread(self._releases.search_settings, version)
            except UpstreamError as error:
                problems[self._public_message(error)] = error
                break  # keep the known settings while the registry cannot be reached
            except ReleaseError as error:
                problems[f"release {version}: {self._public_message(error)}"] = error
                continue
            if settings is None:
                search.pop(version, None)
            else:
                search[version] = settings
        if search != self._search:
            self._search = search
            self._ranker.search = search
            log.info("search_settings_changed", **{str(version): each.model_dump() for version, each in search.items()})
            try:
                await self._in_thread(self._releases.remember_search, search)
            except OSError as error:
                log.warning("search_settings_not_saved", problem=str(error))

    async def _set_roles(self, named: dict[str, int]) -> None:
        """Assign roles to loaded releases. The champion stays if its successor could not be loaded."""
        champion = named.get(CHAMPION)
        if champion not in self._ranker.loaded:
            champion = self._ranker.champion
        if champion is None or (named == self._known and champion == self._ranker.champion):
            return
        challenger = named.get(CHALLENGER)
        self._ranker.set_roles(champion, challenger if challenger in self._ranker.loaded else None)
        self._ranker.evict(named.values())
        for role in WATCHED:
            SERVING.labels(role).set(named.get(role, 0))
        SERVING.labels(CHAMPION).set(champion)
        log.info("roles_changed", **{**named, CHAMPION: champion})
        try:
            await self._in_thread(self._releases.remember, named)
        except OSError as error:
            log.warning("aliases_not_saved", problem=str(error))
        if all(version in self._ranker.loaded for version in named.values()):
            self._known = named

    def _public_message(self, error: Exception) -> str:
        if isinstance(error, UpstreamError):
            disk = _disk_error(error)
            if disk is None:
                return f"MLflow: {error.code}"
            error = disk
        if isinstance(error, ReleaseError | OSError):
            return str(error).replace(f"{self._directory}/", "")
        return type(error).__name__

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *arguments))


def _disk_error(error: BaseException | None) -> OSError | None:
    """The local disk error, such as a full disk, that MLflow's client wraps in an error of its own."""
    while error is not None and not (isinstance(error, OSError) and error.filename):
        error = error.__cause__
    return error


def tune_process() -> None:
    """One torch thread: a request's matrices are so small that a second thread adds more waiting than speed."""
    torch.set_num_threads(1)
    tune_garbage_collection()
