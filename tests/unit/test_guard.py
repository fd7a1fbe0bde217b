"""The guard over a log that was written by hand, and a registry that may die at any write."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from events.attribution.attribute import AttributionRules
from events.attribution.day_tallies import DayTallies
from recsys.clock import ClockFile
from recsys.errors import JobError, UpstreamUnavailable
from recsys.experiment import CHAMPION, HOLDBACK
from recsys.model.registry import PREVIOUS
from recsys.ramp import RAMP_TAG, Ramp
from recsys.web.readiness import OK
from tests.event_logs import LogByHand, event, impression
from training.guard.decision import Action, Rules
from training.guard.guard import Guard
from training.promotion import lease
from training.promotion.lease import LEASE_TAG, Holder
from training.promotion.rolled_back import ROLLED_BACK_TAG, RolledBack, rolled_back

NEW, OLD = 5, 4
START = time.time() // 600 * 600 - 3600
RAMP = Ramp(before=OLD, percent=10, steps=(10, 50, 95), started=START, since=START)
RULES = Rules(0.05, 0.5, 0.01, 0.5, step_seconds=1800, step_impressions=100, blind_seconds=900)


class Killed(BaseException):
    """The process has ended. Unlike after an exception, nothing is written any more."""


class FragileRegistry:
    """What the guard uses of `ModelRegistry`. The process is killed before the write number `dies_at`."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.named = {CHAMPION: NEW, PREVIOUS: OLD}
        self.tags: dict[int, dict[str, str]] = {NEW: {RAMP_TAG: RAMP.model_dump_json()}, OLD: {}}
        self.shared: dict[str, str] = {}
        self.writes = 0
        self.dies_at = dies_at

    def aliases(self) -> dict[str, int]:
        return dict(self.named)

    def tags_of(self, version: int) -> dict[str, str]:
        return dict(self.tags[version])

    def shared_tag(self, key: str) -> str | None:
        return self.shared.get(key)

    def set_shared_tag(self, key: str, value: str) -> None:
        self._write(lambda: self.shared.update({key: value}))

    def delete_shared_tag(self, key: str) -> None:
        self._write(lambda: self.shared.pop(key))

    def set_tag(self, version: int, key: str, value: str) -> None:
        self._write(lambda: self.tags[version].update({key: value}))

    def delete_tag(self, version: int, key: str) -> None:
        self._write(lambda: self.tags[version].pop(key, None))

    def set_alias(self, alias: str, version: int) -> None:
        self._write(lambda: self.named.update({alias: version}))

    def restart(self) -> None:
        """The lease of a process that has ended is free."""
        self.dies_at = None
        self.shared.pop(LEASE_TAG, None)

    def _write(self, change: Callable[[], object]) -> None:
        if self.dies_at is not None and self.writes >= self.dies_at:
            raise Killed
        self.writes += 1
        change()

    @property
    def percent(self) -> float | None:
        ramp = Ramp.of(self.tags[NEW])
        return None if ramp is None else ramp.percent


@pytest.fixture(autouse=True)
def an_hour_after_the_ramp_began(clock: ClockFile) -> None:
    clock.set(START + 3600)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def log(tmp_path: Path) -> LogByHand:
    return LogByHand(tmp_path)


def guard_over(log: LogByHand, registry: FragileRegistry) -> Guard:
    tallies = DayTallies(str(log.root), AttributionRules())
    return Guard(registry, tallies, RULES, seconds=1)  # type: ignore[arg-type]


def show(log: LogByHand, *, clicked: float, clicked_before: float, at: float = START + 3500, pages: int = 400) -> None:
    """As many impressions of each release; every user has one. The shares of clicks are exact."""
    arms = {CHAMPION: (NEW, clicked), HOLDBACK: (OLD, clicked_before)}
    shown, done = [], []
    for variant, (release, share) in arms.items():
        for number in range(pages):
            name = f"{variant}-{number}"
            shown.append(impression(name, at, user=name, release=release, variant=variant))
            if number < share * pages:
                done.append(event(name, "a", at + 30, user=name))
    log.show(*shown)
    log.record(*(done or [event(None, "a", at + 30)]))


def test_without_a_ramp_there_is_nothing_to_do(log: LogByHand) -> None:
    registry = FragileRegistry()
    registry.tags[NEW] = {}
    guard = guard_over(log, registry)
    assert (guard.look(), guard.state, registry.writes) == (None, OK, 0)


def test_an_equal_release_moves_on_to_everybody(log: LogByHand) -> None:
    show(log, clicked=0.3, clicked_before=0.3)
    registry, shares = FragileRegistry(), []
    guard = guard_over(log, registry)
    while registry.percent is not None:
        shares.append(registry.percent)
        verdict = guard.look()
        assert verdict is not None
        assert verdict.action == Action.MOVE
        ramp = Ramp.of(registry.tags[NEW])
        if ramp is not None:  # its time has passed
            registry.tags[NEW][RAMP_TAG] = ramp.model_copy(update={"since": START}).model_dump_json()
    assert shares == [10, 50, 95]
    assert registry.named == {CHAMPION: NEW, PREVIOUS: OLD}
    assert registry.shared == {}


def test_a_worse_release_is_taken_back_with_the_reason(log: LogByHand) -> None:
    show(log, clicked=0.1, clicked_before=0.4)
    registry, before = FragileRegistry(), rollbacks()
    verdict = guard_over(log, registry).look()
    assert verdict is not None
    assert verdict.action == Action.ROLL_BACK
    assert registry.named == {CHAMPION: OLD, PREVIOUS: NEW}
    record = rolled_back(registry.tags[NEW])
    assert record is not None
    assert "click-through 10.00%, and 40.00% of the release before" in record.reason
    assert (registry.percent, registry.shared, rollbacks()) == (None, {}, before + 1)


def rollbacks() -> float:
    return REGISTRY.get_sample_value("tandem_guard_rollbacks_total") or 0.0


def test_what_it_cannot_see_it_says_and_leaves_the_ramp(log: LogByHand) -> None:
    registry = FragileRegistry()
    guard = guard_over(log, registry)
    guard.look()
    assert guard.state == "no impression was collected in the last 60 min"
    assert REGISTRY.get_sample_value("tandem_guard_blind") == 1
    show(log, clicked=0.0, clicked_before=0.0)
    guard.look()
    assert guard.state.startswith("none of 800 impressions was clicked")
    assert (registry.percent, registry.writes) == (10, 0)
    show(log, clicked=0.3, clicked_before=0.3, at=START + 3550)
    guard.look()
    assert (guard.state, registry.percent) == (OK, 50)
    assert REGISTRY.get_sample_value("tandem_guard_blind") == 0


@pytest.mark.parametrize("dies_at", range(8))
def test_a_guard_that_is_killed_during_a_rollback_is_finished_by_the_next(log: LogByHand, dies_at: int) -> None:
    show(log, clicked=0.1, clicked_before=0.4)
    registry = FragileRegistry(dies_at)
    try:
        guard_over(log, registry).look()
    except Killed:
        ramping = registry.percent is not None and registry.named == {CHAMPION: NEW, PREVIOUS: OLD}
        assert ramping or registry.named[CHAMPION] == OLD, "nothing in between"
    registry.restart()
    guard_over(log, registry).look()
    assert registry.named[CHAMPION] == OLD
    assert ROLLED_BACK_TAG in registry.tags[NEW]


def test_a_rollback_that_has_begun_is_finished_without_evidence(log: LogByHand) -> None:
    registry = FragileRegistry()
    registry.tags[NEW][ROLLED_BACK_TAG] = RolledBack.now("fewer clicks").model_dump_json()
    guard_over(log, registry).look()
    assert registry.named == {CHAMPION: OLD, PREVIOUS: NEW}
    assert rolled_back(registry.tags[NEW]).reason == "fewer clicks"  # type: ignore[union-attr]


def test_while_another_job_changes_the_champion_it_waits(log: LogByHand) -> None:
    show(log, clicked=0.1, clicked_before=0.4)
    registry = FragileRegistry()
    holder = Holder(token="t", job="promote version 6", host="elsewhere", pid=os.getpid(), expires=time.time() + 60)
    registry.shared[LEASE_TAG] = holder.model_dump_json()
    with pytest.raises(JobError, match="'promote version 6'"):
        guard_over(log, registry).look()
    assert registry.named == {CHAMPION: NEW, PREVIOUS: OLD}


def test_what_another_guard_has_done_is_not_done_again(log: LogByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    show(log, clicked=0.3, clicked_before=0.3)
    registry = FragileRegistry()
    first, second = guard_over(log, registry), guard_over(log, registry)
    judge = second._judge

    def judge_slowly(*arguments: object) -> object:
        verdict = judge(*arguments)  # type: ignore[arg-type]
        first.look()
        return verdict

    monkeypatch.setattr(second, "_judge", judge_slowly)
    second.look()
    assert registry.percent == 50


async def test_a_registry_that_is_away_is_a_state(log: LogByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FragileRegistry()
    guard = guard_over(log, registry)

    def away() -> dict[str, int]:
        raise UpstreamUnavailable("MLflow: away")

    async def stop(_: float) -> None:
        raise Killed

    monkeypatch.setattr(registry, "aliases", away)
    monkeypatch.setattr("training.guard.guard.asyncio.sleep", stop)
    with pytest.raises(Killed):
        await guard.run()
    assert guard.state == "MLflow: away"
