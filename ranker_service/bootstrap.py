"""The ranker's composition root, and the watch that keeps it on the releases that the registry's aliases name."""

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
"""Most urgent first."""
SERVING = Gauge("tandem_release", "The version behind each role.", ["role"], multiprocess_mode="mostrecent")
FAILURES = Counter("tandem_release_failures_total", "Attempts to load a release that failed.")
# A release that cannot be had must never take the one that serves with it, whatever is full: memory (torch says so
# with a RuntimeError), or the disk.
SURVIVED = (UpstreamError, ReleaseError, OSError, MemoryError, RuntimeError)

T = TypeVar("T")

log = structlog.get_logger()


class ReleaseWatch:
    """Loads whatever the aliases name, beside what serves, and swaps when it is warm.

    What goes wrong leaves the old releases serving and stands in `problems` until it is right again: the kind of
    trouble, without an address or a path, as anybody may ask. The log has the rest.
    """

    def __init__(self, settings: RankerSettings, ranker: LocalRanker) -> None:
        self._ranker = ranker
        self._directory = settings.releases_dir
        self._releases = LocalReleases(settings.releases_dir, ModelRegistry(settings.mlflow_tracking_uri))
        self._poll_seconds = settings.poll_seconds
        # One thread, so that loading cannot take more than one core from the requests.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="releases")
        self._known: dict[str, int] = {}
        self._search: dict[int, SearchSettings] | None = None

    @property
    def problems(self) -> list[str]:
        return self._ranker.problems

    async def run(self) -> None:
        while True:
            problems = await self._look()
            for problem in problems.keys() - set(self._ranker.problems):
                detail = str(problems[problem])
                log.warning("release_not_loaded", problem=problem, detail=detail, champion=self._ranker.champion)
            self._ranker.problems = list(problems)
            await asyncio.sleep(self._poll_seconds)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> dict[str, Exception]:
        """Go after the aliases once; returns what went wrong, by what is told of it."""
        problems: dict[str, Exception] = {}
        try:
            aliases = await self._in_thread(self._releases.aliases)
        except UpstreamError as error:
            problems[self._told(error)] = error
            aliases = self._known or await self._in_thread(self._releases.last_aliases)
        named = {alias: aliases[alias] for alias in WATCHED if alias in aliases}
        for version in dict.fromkeys(named.values()):
            if version in self._ranker.loaded:
                continue
            try:
                self._ranker.add(await self._in_thread(self._releases.load, version))
                log.info("release_loaded", release=version)
            except SURVIVED as error:
                FAILURES.inc()
                problems[f"release {version}: {self._told(error)}"] = error
        await self._refresh_search(named.values(), problems)
        await self._set_roles(named)
        return problems

    async def _refresh_search(self, versions: Collection[int], problems: dict[str, Exception]) -> None:
        """Learn how collections are searched: each may have been built again with other settings."""
        search = dict(self._search if self._search is not None else await self._in_thread(self._releases.last_search))
        for version in dict.fromkeys(versions):
            try:
                settings = await self._in_thread(self._releases.search_settings, version)
            except UpstreamError as error:
                problems[self._told(error)] = error
                break  # what was known holds while nobody can be asked
            except ReleaseError as error:
                problems[f"release {version}: {self._told(error)}"] = error
                continue
            if settings is None:
                search.pop(version, None)
            else:
                search[version] = settings
        if search != self._search:
            self._search = search
            self._ranker.search = search
            log.info("search_settings_found", **{str(version): each.model_dump() for version, each in search.items()})
            try:
                await self._in_thread(self._releases.remember_search, search)
            except OSError as error:
                log.warning("search_settings_not_remembered", problem=str(error))

    async def _set_roles(self, named: dict[str, int]) -> None:
        """Give the loaded releases their roles; a role whose release could not be loaded stays with the old one."""
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
        log.info("releases_appointed", **{**named, CHAMPION: champion})
        try:
            await self._in_thread(self._releases.remember, named)
        except OSError as error:
            log.warning("aliases_not_remembered", problem=str(error))
        if all(version in self._ranker.loaded for version in named.values()):
            self._known = named

    def _told(self, error: Exception) -> str:
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
    """What failed here rather than there: a full disk, which MLflow's client reports as an error of its own."""
    while error is not None and not (isinstance(error, OSError) and error.filename):
        error = error.__cause__
    return error


def tune_process() -> None:
    """One request's matrices are small: a second thread costs more in waiting than it computes."""
    torch.set_num_threads(1)
    tune_garbage_collection()
