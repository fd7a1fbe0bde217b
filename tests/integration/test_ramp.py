"""A promotion that ramps: two releases serve side by side, each its own users, until one of them serves everybody."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recsys.errors import JobError
from recsys.experiment import CHAMPION, HOLDBACK
from recsys.model.registry import PREVIOUS, ModelRegistry
from recsys.ramp import gets_champion
from tests.conftest import Stack
from tests.engines import eventually, is_whole, running
from tests.event_logs import LogByHand, event, impression
from tests.integration.test_releases import load, new_version, recommend, restore_first_release  # noqa: F401
from training.jobs.promote import promote
from training.jobs.ramp import ramp
from training.jobs.releases import releases
from training.jobs.rollback import rollback

USERS = [f"reader-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def registry(stack: Stack) -> ModelRegistry:
    return ModelRegistry(stack.settings.mlflow_url)


@pytest.fixture(scope="module")
def third(stack: Stack) -> int:
    return new_version(stack, "ramped", seed=33)


@pytest.fixture
def ramping(
    stack: Stack, registry: ModelRegistry, third: int, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """A version that a ramped promotion gave to the first tenth of the users."""
    monkeypatch.setenv("VERSION", str(third))
    monkeypatch.setenv("FORCE", "1")
    monkeypatch.setenv("RAMP", "10,50,95")
    assert f"version {third} is the champion for 10% of the users" in promote(stack.jobs)
    monkeypatch.delenv("FORCE")
    eventually(lambda: served(api) == expected(third, 10), "the ramp did not begin")
    return third


def served(api: httpx.Client) -> dict[str, tuple[str, int]]:
    """The variant and the release of each user's response."""
    answers = {user_id: recommend(api, user_id=user_id) for user_id in USERS}
    assert {answer["tier"] for answer in answers.values()} == {"personalized"}
    return {user_id: (answer["variant"], answer["release"]) for user_id, answer in answers.items()}


def expected(version: int, percent: float) -> dict[str, tuple[str, int]]:
    return {
        user_id: (CHAMPION, version) if gets_champion(user_id, version, percent) else (HOLDBACK, 1) for user_id in USERS
    }


async def test_no_request_is_lost_while_the_shares_grow(
    stack: Stack, registry: ModelRegistry, ramping: int, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with load(stack.settings.orchestrator_url) as seen:
        for share in (50, 95):
            await asyncio.to_thread(ramp, stack.jobs)
            await asyncio.to_thread(eventually, lambda share=share: served(api) == expected(ramping, share))
        assert "a promotion ramps: " in releases(stack.jobs)
        assert "serves everybody" in await asyncio.to_thread(ramp, stack.jobs)
        await asyncio.to_thread(eventually, lambda: served(api) == expected(ramping, 100))
    assert seen.failed == []
    assert seen.mixed == []
    assert set(seen.releases) == {1, ramping}
    assert registry.aliases() == {CHAMPION: ramping, PREVIOUS: 1}
    with pytest.raises(JobError, match="no promotion ramps"):
        ramp(stack.jobs)


def test_a_share_is_set_by_hand_and_a_rollback_ends_the_ramp(
    stack: Stack, registry: ModelRegistry, ramping: int, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARE", "70")
    assert f"version {ramping} serves 70% of the users, version 1 the others" in ramp(stack.jobs)
    eventually(lambda: served(api) == expected(ramping, 70))
    unknown = api.post("/v1/recommendations", json={"user_id": held_back(ramping, 70)}).json()
    assert (unknown["tier"], unknown["variant"], unknown["release"]) == ("popular", HOLDBACK, 1)
    assert unknown["recommendation_id"].endswith(".holdback")
    rollback(stack.jobs)
    eventually(lambda: set(served(api).values()) == {(CHAMPION, 1)})
    assert "ramp" not in registry.tags_of(ramping)
    rollback(stack.jobs)
    eventually(lambda: set(served(api).values()) == {(CHAMPION, ramping)}, "an undone rollback serves everybody")


def held_back(version: int, percent: float) -> str:
    return next(user_id for user_id in USERS if not gets_champion(user_id, version, percent))


def test_the_guard_takes_a_release_back_that_users_click_less(
    stack: Stack, registry: ModelRegistry, ramping: int, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, now = LogByHand(Path(str(stack.settings.event_log))), time.time()
    with running(stack.settings, "guard", GUARD_SECONDS="0.3"):
        eventually(lambda: is_whole(stack.settings.guard_url), "the guard is not ready")
        for variant, version in ((CHAMPION, ramping), (HOLDBACK, 1)):
            names = [f"{variant}-{number}" for number in range(300)]
            log.show(*(impression(name, now, user=name, release=version, variant=variant) for name in names))
            log.record(*(event(name if version == 1 else None, "a", now, user=name) for name in names))
        eventually(lambda: set(served(api).values()) == {(CHAMPION, 1)}, "it was not rolled back")
        assert is_whole(stack.settings.guard_url)
        metrics = httpx.get(f"{stack.settings.guard_url}/metrics").text
    assert "tandem_guard_rollbacks_total 1.0" in metrics
    assert registry.aliases() == {CHAMPION: 1, PREVIOUS: ramping}
    with pytest.raises(JobError, match=r"rolled back on .*: click-through 0.00%, and 100.00% of the release"):
        promote(stack.jobs)


def test_no_promotion_follows_one_that_ramps(
    stack: Stack, registry: ModelRegistry, ramping: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSION", "1")
    with pytest.raises(JobError, match=f"a promotion ramps: version {ramping} serves 10%.*SHARE=100.*rollback"):
        promote(stack.jobs)
    monkeypatch.setenv("FORCE", "1")
    monkeypatch.setenv("RAMP", "100")
    promote(stack.jobs)
    assert registry.aliases() == {CHAMPION: 1, PREVIOUS: ramping}
    assert all("ramp" not in registry.tags_of(version) for version in (1, ramping))
