"""Loads the releases that the registry's aliases name, and follows their changes."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge

from ranker_service.retries import Retries
from recsys.adapters.local_ranker import LocalRanker
from recsys.contracts.retrieval import SearchSettings
from recsys.errors import ReleaseError, ReleaseTooLarge, UpstreamError
from recsys.model.local_releases import CopyInUse, LocalReleases
from recsys.model.memory_limit import return_freed_memory
from recsys.model.registry import CHALLENGER, CHAMPION, NEXT, PREVIOUS
from recsys.model.release import Release
from recsys.ramp import EVERYBODY, Ramp

WATCHED = (CHAMPION, NEXT, CHALLENGER, PREVIOUS)
"""In the order of loading, and of their importance if memory is short."""
SERVING = Gauge("tandem_release", "The release version that has each role.", ["role"])
LAST_CHAMPION = "last champion"
"""After a start, the champion before it. Not an alias of the registry."""
FAILURES = Counter("tandem_release_failures_total", "Attempts to load a release that failed.")
WATCH_FAILURES = Counter("tandem_release_watch_failures_total", "Unexpected errors while following the registry.")
QUERY_CACHE = Gauge("tandem_query_cache_bytes", "Cached query embeddings of the loaded releases.")
# A release that fails to load must not stop the serving one, not even when memory (torch raises RuntimeError) or the
# disk is full.
LOAD_ERRORS = (UpstreamError, ReleaseError, OSError, MemoryError, RuntimeError)

T = TypeVar("T")
Problems = dict[str, str]
"""Details for the log by public description. Not the errors themselves: their tracebacks keep what was half loaded."""

log = structlog.get_logger()


class ReleaseWatch:
    """Loads the releases that the aliases name while the old ones serve, and switches when they are warm.

    After a failure the old releases keep serving, and `problems` describes it until it is resolved. `problems` is
    public, so it contains no addresses or paths; the log has the details.
    """

    def __init__(
        self,
        releases: LocalReleases,
        ranker: LocalRanker,
        directory: Path,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory` is left out of the problems."""
        self._releases = releases
        self._ranker = ranker
        self._directory = directory
        self._poll_seconds = poll_seconds
        # One thread, so that loading takes at most one core from requests.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="releases")
        self._task: asyncio.Task[None] | None = None
        self._retries = Retries(poll_seconds, clock)
        self._aliases: dict[str, int] = {}
        """As last accepted."""
        self._registry_answers = True
        """Whether the last question for aliases had a usable answer."""
        self._assigned: dict[str, int] = {}
        """The releases with a role, and those that aliases name, by alias."""
        self._replaced: set[int] = set()
        """Loaded versions that have other weights in the registry."""
        self._search: dict[int, SearchSettings] | None = None
        self._ramps: dict[int, Ramp] = {}
        self._assigned_ramp: Ramp | None = None

    @property
    def problems(self) -> list[str]:
        return self._ranker.problems

    def start(self) -> None:
        """Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self.run())
        self._task.add_done_callback(self._restart)

    def close(self) -> None:
        if self._task is not None:
            self._task.remove_done_callback(self._restart)
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        while True:
            await self.follow()
            await asyncio.sleep(self._poll_seconds)

    async def follow(self) -> None:
        """Follow the aliases once, and report problems."""
        try:
            problems = await self._update()
        except Exception as error:  # a bug; the next attempt may still succeed
            problems = self._failed_unexpectedly(error)
        self._report(problems)
        QUERY_CACHE.set(self._ranker.cached_bytes)

    def _restart(self, task: asyncio.Task[None]) -> None:
        """`run` never returns, but a library may raise what `except Exception` does not catch."""
        error = None if task.cancelled() else task.exception()
        self._report(self._failed_unexpectedly(error or asyncio.CancelledError()))
        asyncio.get_running_loop().call_later(self._poll_seconds, self.start)

    def _failed_unexpectedly(self, error: BaseException) -> Problems:
        WATCH_FAILURES.inc()
        log.error("release_watch_failed", exc_info=error)
        return {f"following the registry failed with {type(error).__name__}, and is tried again": repr(error)}

    def _report(self, problems: Problems) -> None:
        for problem in problems.keys() - set(self._ranker.problems):
            log.warning("release_not_loaded", problem=problem, detail=problems[problem], champion=self._ranker.champion)
        self._ranker.problems = list(problems)

    async def _update(self) -> Problems:
        problems: Problems = {}
        named = await self._named(problems)
        await self._load(named, problems)
        await self._refresh_registered(named.values(), problems)
        await self._set_roles(named)
        return problems

    async def _named(self, problems: Problems) -> dict[str, int]:
        """The versions by alias. What the registry named before stays valid while it fails or is empty."""
        known = self._aliases or await self._in_thread(self._releases.last_aliases)
        answered = self._registry_answers
        self._registry_answers = False
        try:
            found = await self._in_thread(self._releases.aliases)
            self._registry_answers = bool(found) or not known
        except UpstreamError as error:
            problems[self._public_message(error)] = str(error)
            found = known
        if self._registry_answers and not answered:
            self._retries.keep_only(())  # what could not be fetched may be there now
        if known and not found:  # a database that was reset, or an empty answer on the way
            problem = f"MLflow names no release any more; releases {sorted({*known.values()})} are kept"
            problems[problem] = "no alias is left"
            found = known
        elif CHAMPION in known and CHAMPION not in found:
            problem = f"MLflow names no champion any more; release {known[CHAMPION]} stays the champion"
            problems[problem] = f"the aliases are {found}"
            found = {**found, CHAMPION: known[CHAMPION]}
        self._aliases = found
        named = {alias: found[alias] for alias in WATCHED if alias in found}
        if self._ranker.champion is None and CHAMPION in known:
            named[LAST_CHAMPION] = known[CHAMPION]  # in case the one that the registry names cannot be loaded
        return named

    async def _load(self, named: Mapping[str, int], problems: Problems) -> None:
        loaded = set(self._ranker.loaded) - self._replaced
        missing = [version for version in dict.fromkeys(named.values()) if version not in loaded]
        self._retries.keep_only(missing)
        for version in missing:
            failure = self._retries.waiting(version)
            if failure is None:
                try:
                    self._ranker.add(await self._load_in_limit(version, named))
                    self._replaced.discard(version)
                    log.info("release_loaded", release=version)
                    continue
                except CopyInUse as error:
                    problems[f"waiting for release {version}: another process works on its copy"] = str(error)
                    continue
                except LOAD_ERRORS as error:
                    FAILURES.inc()
                    problem = f"release {version}: {self._public_message(error)}"
                    failure = self._retries.failed(version, problem, str(error))
            problems[failure.problem] = failure.detail

    async def _load_in_limit(self, version: int, named: Mapping[str, int]) -> Release:
        """If memory is short, unload what is less important first."""
        try:
            return await self._in_thread(self._releases.load, version)
        except ReleaseTooLarge as error:
            missing = error.missing_bytes
        evicted = self._ranker.make_room(missing, self._expendable(version, named))
        if evicted:
            log.warning("releases_evicted", releases=evicted, room_for=version)
            await self._in_thread(return_freed_memory)
        return await self._in_thread(self._releases.load, version)

    def _expendable(self, version: int, named: Mapping[str, int]) -> list[int]:
        """Loaded releases that no alias names, then those with a less important alias, the least important first."""
        by_importance = list(dict.fromkeys(named.values()))
        retired = [loaded for loaded in self._ranker.loaded if loaded not in by_importance]
        return [*retired, *reversed(by_importance[by_importance.index(version) + 1 :])]

    async def _refresh_registered(self, versions: Collection[int], problems: Problems) -> None:
        """Read the tags of each version again: its collection may have been rebuilt, with other search settings."""
        if self._search is None:
            self._search = await self._in_thread(self._releases.last_search)
            self._ranker.search = self._search
            self._ramps = await self._in_thread(self._releases.last_ramps)
        if not self._registry_answers:
            return
        search = {version: self._search[version] for version in self._search if version in versions}
        ramps = {version: self._ramps[version] for version in self._ramps if version in versions}
        for version in dict.fromkeys(versions):
            try:
                registered = await self._in_thread(self._releases.registered, version)
            except UpstreamError as error:
                problems[self._public_message(error)] = str(error)
                break  # keep the known settings while the registry cannot be reached
            except ReleaseError as error:
                problems[f"release {version}: {self._public_message(error)}"] = str(error)
                continue
            if registered.weights_hash != self._ranker.weights_of(version) is not None:
                self._replaced.add(version)  # a registry that was set up again counts from 1
            if registered.search is None:
                search.pop(version, None)
            else:
                search[version] = registered.search
            if registered.ramp is None:
                ramps.pop(version, None)
            else:
                ramps[version] = registered.ramp
        await self._set_search(search)
        await self._set_ramps(ramps)

    async def _set_search(self, search: dict[int, SearchSettings]) -> None:
        if search == self._search:
            return
        self._search = search
        self._ranker.search = search
        log.info("search_settings_changed", **{str(version): each.model_dump() for version, each in search.items()})
        try:
            await self._in_thread(self._releases.remember_search, search)
        except OSError as error:
            log.warning("search_settings_not_saved", problem=str(error))

    async def _set_ramps(self, ramps: dict[int, Ramp]) -> None:
        if ramps == self._ramps:
            return
        self._ramps = ramps
        try:
            await self._in_thread(self._releases.remember_ramps, ramps)
        except OSError as error:
            log.warning("ramps_not_saved", problem=str(error))

    async def _set_roles(self, named: Mapping[str, int]) -> None:
        """Assign roles to loaded releases. The champion stays if its successor could not be loaded."""
        loaded = self._ranker.loaded
        wanted = (named.get(CHAMPION), self._ranker.champion, named.get(LAST_CHAMPION))
        champion = next((version for version in wanted if version in loaded), None)
        if champion is None:
            return
        assigned = {alias: named[alias] for alias in WATCHED if named.get(alias) in loaded} | {CHAMPION: champion}
        ramp = self._ramps.get(champion)
        if ramp is not None and ramp.before != assigned.get(PREVIOUS):
            ramp = None  # it ended with a rollback, or the release before cannot be loaded
        if (assigned, ramp) == (self._assigned, self._assigned_ramp):
            return
        self._assigned, self._assigned_ramp = assigned, ramp
        holdback, percent = (ramp.before, ramp.percent) if ramp else (None, EVERYBODY)
        self._ranker.set_roles(champion, assigned.get(CHALLENGER), holdback=holdback, champion_percent=percent)
        self._ranker.evict(named.values())
        for role in WATCHED:
            SERVING.labels(role).set(assigned.get(role, 0))
        log.info("roles_changed", **assigned, champion_percent=percent)
        try:
            await self._in_thread(self._releases.remember, assigned, {*named.values(), *self._ranker.loaded})
        except OSError as error:
            log.warning("aliases_not_saved", problem=str(error))

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
