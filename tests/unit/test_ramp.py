"""Whom a ramped promotion reaches, and where its state is kept."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recsys.experiment import CHALLENGER, Experiment
from recsys.ramp import RAMP_TAG, Ramp, gets_champion, parse_steps
from tests.unit.release_case import InMemoryRegistry
from tests.unit.test_release_watch import WatchedRanker, restarted

USERS = [f"user-{number}" for number in range(20_000)]
RAMP = Ramp(before=1, percent=10, steps=(10, 50, 95), started=1000, since=1000)


def reached(champion: int, percent: float) -> set[str]:
    return {user_id for user_id in USERS if gets_champion(user_id, champion, percent)}


# --- shares -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [0.5, 10, 50, 95])
def test_the_share_is_met(percent: float) -> None:
    assert len(reached(7, percent)) / len(USERS) == pytest.approx(percent / 100, abs=0.015)


def test_a_larger_share_keeps_the_users_of_a_smaller_one() -> None:
    assert reached(7, 10) < reached(7, 50) < reached(7, 95) < reached(7, 100) == set(USERS)


def test_other_users_are_the_first_for_the_next_release() -> None:
    assert len(reached(7, 10) & reached(8, 10)) / len(USERS) == pytest.approx(0.01, abs=0.005)


def test_the_ramp_does_not_follow_the_experiment() -> None:
    experiment = Experiment(challenger_percent=50)
    challenged = {user_id for user_id in USERS if experiment.variant_of(user_id) == CHALLENGER}
    assert len(reached(7, 50) & challenged) / len(USERS) == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize(
    ("text", "steps"), [("10,50,95", (10, 50, 95)), ("100", ()), ("10, 100", (10,)), ("0.5", (0.5,))]
)
def test_steps(text: str, steps: tuple[float, ...]) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["", "ten", "50,10", "10,10", "0,50", "50,101", "10;50", "nan"])
def test_what_is_no_ramp_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="such as 10,50,95"):
        parse_steps(text)


def test_the_next_share() -> None:
    assert [RAMP.model_copy(update={"percent": percent}).next_percent for percent in (10, 20, 50, 95)] == [
        50,
        50,
        95,
        100,
    ]


# --- in the ranker ----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> InMemoryRegistry:
    registry = InMemoryRegistry(tmp_path / "registry")
    for version in (1, 2, 3):
        registry.add(version)
    registry.named = {"champion": 2, "previous": 1}
    registry.tags = {2: {RAMP_TAG: RAMP.model_dump_json()}}
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
async def watched(registry: InMemoryRegistry, folder: Path) -> AsyncIterator[WatchedRanker]:
    watched = WatchedRanker(registry, folder)
    yield watched
    watched.watch.close()


async def ramp_of(watched: WatchedRanker) -> tuple[int | None, int | None, float]:
    serving = await watched.ranker.releases()
    return serving.champion, serving.holdback, serving.champion_percent


async def test_a_ranker_reports_the_ramp_and_follows_it(registry: InMemoryRegistry, watched: WatchedRanker) -> None:
    assert await watched.round() == []
    assert await ramp_of(watched) == (2, 1, 10)
    registry.tags[2][RAMP_TAG] = RAMP.model_copy(update={"percent": 50}).model_dump_json()
    await watched.round()
    assert await ramp_of(watched) == (2, 1, 50)
    del registry.tags[2]
    await watched.round()
    assert await ramp_of(watched) == (2, None, 100)


async def test_a_ranker_that_starts_without_the_registry_goes_on_with_the_ramp(
    registry: InMemoryRegistry, watched: WatchedRanker, folder: Path
) -> None:
    await watched.round()
    registry.reachable = False
    other = restarted(registry, folder)
    await other.round()
    assert await ramp_of(other) == (2, 1, 10)
    other.watch.close()


@pytest.mark.parametrize("named", [{"champion": 1, "previous": 2}, {"champion": 2, "previous": 3}, {"champion": 2}])
async def test_a_ramp_ends_when_an_alias_moves(
    registry: InMemoryRegistry, watched: WatchedRanker, named: dict[str, int]
) -> None:
    await watched.round()
    registry.named = named
    await watched.round()
    assert await ramp_of(watched) == (named["champion"], None, 100)


async def test_a_tag_that_is_no_ramp_is_reported_and_changes_nothing(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    registry.tags[2][RAMP_TAG] = "half"
    assert await watched.round() == ["release 2: the tag 'ramp' of version 2 is not a valid ramp"]
    assert await ramp_of(watched) == (2, 1, 10)


async def test_while_it_ramps_the_release_before_does_not_make_room(
    registry: InMemoryRegistry, watched: WatchedRanker
) -> None:
    await watched.round()
    assert watched.ranker.make_room(1, [1]) == []
    watched.ranker.evict([])
    assert sorted(watched.ranker.loaded) == [1, 2]
