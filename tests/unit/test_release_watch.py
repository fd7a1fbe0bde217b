"""The ranker's watch: it follows the registry, keeps what serves, and says what is wrong."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock

from ranker_service.release_watch import FAILURES, WATCH_FAILURES, ReleaseWatch
from recsys.adapters.local_ranker import LocalRanker
from recsys.model.files import WEIGHTS_FILE
from recsys.model.local_releases import LOCKS, LocalReleases
from recsys.model.memory_limit import MemoryLeft
from recsys.model.release import Release
from recsys.model.release_memory import loading_bytes
from tests import toy
from tests.unit.release_case import InMemoryRegistry, damage

MB = 10**6


class WatchedRanker:
    """A ranker whose watch runs one round at a time, with a clock that tests move."""

    def __init__(self, registry: InMemoryRegistry, folder: Path) -> None:
        self.ranker = LocalRanker()
        self.now = 0.0
        self.left = lambda: MemoryLeft(10**12, "on this machine")
        releases = LocalReleases(folder, registry, lambda: self.left())  # type: ignore[arg-type]
        self.watch = ReleaseWatch(releases, self.ranker, folder, poll_seconds=2, clock=lambda: self.now)

    async def round(self) -> list[str]:
        await self.watch.follow()
        return self.ranker.problems

    async def round_after(self, seconds: float) -> list[str]:
        self.now += seconds
        return await self.round()

    @property
    def champion(self) -> int | None:
        return self.ranker.champion

    async def challenger(self) -> int | None:
        return (await self.ranker.releases()).challenger


@pytest.fixture
def registry(tmp_path: Path) -> InMemoryRegistry:
    registry = InMemoryRegistry(tmp_path / "registry")
    for version in (1, 2, 3):
        registry.add(version)
    registry.named = {"champion": 1}
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
async def watched(registry: InMemoryRegistry, folder: Path) -> AsyncIterator[WatchedRanker]:
    watched = WatchedRanker(registry, folder)
    yield watched
    watched.watch.close()


def restarted(registry: InMemoryRegistry, folder: Path) -> WatchedRanker:
    """Another ranker with the same folder."""
    return WatchedRanker(registry, folder)


async def test_it_loads_what_the_aliases_name_and_switches(registry: InMemoryRegistry, watched: WatchedRanker) -> None:
    assert await watched.round() == []
    assert (watched.champion, watched.ranker.loaded) == (1, [1])
    registry.named = {"champion": 2, "previous": 1, "challenger": 3}
    assert await watched.round() == []
    assert (watched.champion, await watched.challenger(), sorted(watched.ranker.loaded)) == (2, 3, [1, 2, 3])
    assert (await watched.ranker.releases()).search.keys() == {1, 2, 3}


async def test_a_registry_without_a_champion_is_no_problem_at_first(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    registry.named = {}
    assert await watched.round() == []
    registry.named = {"next": 1}
    assert await watched.round() == []
    assert (watched.champion, watched.ranker.loaded) == (None, [1])


# --- a registry that lost its aliases ---------------------------------------------------------------------------------


async def test_an_empty_answer_keeps_everything(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    registry.named = {"champion": 2, "previous": 1, "challenger": 3}
    await watched.round()
    aliases = (folder / "aliases.json").read_text()
    registry.named = {}
    (problem,) = await watched.round()
    assert problem == "MLflow names no release any more; releases [1, 2, 3] are kept"
    assert (watched.champion, await watched.challenger()) == (2, 3)
    assert (folder / "aliases.json").read_text() == aliases
    assert {"1", "2", "3"} < {path.name for path in folder.iterdir()}
    registry.named = {"champion": 2, "previous": 1}
    assert await watched.round() == []
    assert (watched.champion, await watched.challenger()) == (2, None)


async def test_a_ranker_that_starts_beside_an_empty_registry_serves_its_copies(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    registry.named = {"champion": 2, "challenger": 3}
    await watched.round()
    registry.named, registry.directories = {}, {}
    other = restarted(registry, folder)
    assert await other.round() == ["MLflow names no release any more; releases [2, 3] are kept"]
    assert (other.champion, await other.challenger()) == (2, 3)
    other.watch.close()


async def test_a_champion_without_alias_stays_while_other_aliases_change(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    registry.named = {"champion": 2, "challenger": 3}
    await watched.round()
    registry.named = {"previous": 1}
    assert await watched.round() == ["MLflow names no champion any more; release 2 stays the champion"]
    assert (watched.champion, await watched.challenger()) == (2, None)
    other = restarted(registry, folder)
    await other.round()
    assert other.champion == 2
    other.watch.close()


async def test_a_version_with_other_weights_in_the_registry_is_replaced(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    before = watched.ranker.weights_of(1)
    registry.add(1, seed=99)
    await watched.round()
    assert await watched.round() == []
    assert watched.ranker.weights_of(1) not in (None, before)


# --- releases that cannot be loaded -----------------------------------------------------------------------------------


async def test_a_damaged_version_is_fetched_less_and_less_often(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    damage(registry.directories[2] / WEIGHTS_FILE)
    registry.named = {"champion": 2}
    failures = FAILURES._value.get()
    attempts = []
    for second in range(0, 3600, 2):
        (problem,) = await watched.round_after(2)
        assert problem.startswith(f"release 2: 2/{WEIGHTS_FILE} has the hash ")
        if len(registry.fetched) > len(attempts) + 1:
            attempts.append(second)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses[:4] == [2, 4, 8, 16]
    assert set(pauses[8:]) == {300}
    assert FAILURES._value.get() - failures == len(attempts)
    assert watched.champion == 1


async def test_a_version_that_is_named_again_is_tried_at_once(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    damage(registry.directories[2] / WEIGHTS_FILE)
    registry.named = {"champion": 1, "next": 2}
    for _ in range(20):
        await watched.round_after(2)
    registry.named = {"champion": 1}
    assert await watched.round() == []
    damage(registry.directories[2] / WEIGHTS_FILE)  # the same bit again, so it is whole
    registry.named = {"champion": 1, "next": 2}
    assert await watched.round() == []
    assert 2 in watched.ranker.loaded


async def test_nothing_is_written_while_nothing_changes(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    damage(registry.directories[2] / WEIGHTS_FILE)
    registry.named = {"champion": 1, "challenger": 2}
    await watched.round()
    written = (folder / "aliases.json").stat().st_mtime_ns
    for _ in range(3):
        await watched.round_after(2)
    assert (folder / "aliases.json").stat().st_mtime_ns == written


async def test_a_ranker_that_starts_with_a_damaged_champion_serves_the_one_before(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    await watched.round()
    damage(registry.directories[2] / WEIGHTS_FILE)
    registry.named = {"champion": 2}
    other = restarted(registry, folder)
    (problem,) = await other.round()
    assert "release 2" in problem
    assert other.champion == 1
    await other.round_after(2)
    assert other.champion == 1
    other.watch.close()


async def test_a_copy_in_use_is_waited_for(registry: InMemoryRegistry, watched: WatchedRanker, folder: Path) -> None:
    await watched.round()
    registry.named = {"champion": 1, "next": 2}
    with FileLock(folder / "locks" / f"{2 % LOCKS}.lock"):
        assert await watched.round() == ["waiting for release 2: another process works on its copy"]
    assert await watched.round() == []
    assert 2 in watched.ranker.loaded


# --- memory -----------------------------------------------------------------------------------------------------------


async def test_a_release_that_does_not_fit_is_reported_and_the_champion_stays(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    watched.left = lambda: MemoryLeft(5 * MB, "of the container's 1.0 GB")
    registry.named = {"champion": 2}
    assert await watched.round() == [
        "release 2: loading takes about 48 MB of memory, and 5 MB are left of the container's 1.0 GB"
    ]
    assert (watched.champion, watched.ranker.loaded) == (1, [1])


async def test_less_important_releases_make_room(registry: InMemoryRegistry, watched: WatchedRanker) -> None:
    registry.named = {"champion": 1, "previous": 2}
    await watched.round()
    needed = watched.ranker._releases[2].resident_bytes
    enough = loading_bytes(len(toy.ITEM_IDS), registry.directories[3])
    watched.left = lambda: MemoryLeft(enough + needed * (1 - len(watched.ranker.loaded)), "for two releases")
    registry.named = {"champion": 1, "previous": 2, "next": 3}
    assert await watched.round() == []
    assert sorted(watched.ranker.loaded) == [1, 3]
    problems = await watched.round()
    assert [problem[:10] for problem in problems] == ["release 2:"]
    assert watched.champion == 1


async def test_nothing_is_unloaded_if_that_is_not_enough(registry: InMemoryRegistry, watched: WatchedRanker) -> None:
    registry.named = {"champion": 1, "previous": 2}
    await watched.round()
    watched.left = lambda: MemoryLeft(0, "")
    registry.named = {"champion": 1, "previous": 2, "challenger": 3}
    await watched.round()
    assert sorted(watched.ranker.loaded) == [1, 2]


# --- bugs -------------------------------------------------------------------------------------------------------------


async def test_an_unexpected_error_is_reported_and_does_not_end_the_watch(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    failures = WATCH_FAILURES._value.get()
    registry.bug = KeyError("a bug")
    assert await watched.round() == ["following the registry failed with KeyError, and is tried again"]
    assert WATCH_FAILURES._value.get() == failures + 1
    assert watched.champion == 1
    registry.bug = None
    registry.named = {"champion": 2}
    assert await watched.round() == []
    assert watched.champion == 2


async def test_a_watch_that_ends_is_started_again(
    registry: InMemoryRegistry, watched: WatchedRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched.watch, "_poll_seconds", 0.001)
    followed, loaded = watched.watch.follow, asyncio.Event()
    ends = [asyncio.CancelledError(), asyncio.CancelledError()]

    async def follow() -> None:
        if ends:
            raise ends.pop()
        await followed()
        loaded.set()

    monkeypatch.setattr(watched.watch, "follow", follow)
    failures = WATCH_FAILURES._value.get()
    watched.watch.start()
    await loaded.wait()
    assert WATCH_FAILURES._value.get() == failures + 2
    assert watched.champion == 1


async def test_a_release_that_failed_is_freed(
    registry: InMemoryRegistry, watched: WatchedRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Problems are kept, but not the exceptions, whose tracebacks refer to the release."""
    failed = []

    def add(release: Release) -> None:
        failed.append(weakref.ref(release))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(watched.ranker, "add", add)
    gc.disable()
    try:
        assert await watched.round() == ["release 1: RuntimeError"]
        assert [release() for release in failed] == [None]
    finally:
        gc.enable()
