"""The failure policy, and how `RequestRun` applies it."""

import asyncio
from typing import Any

import pytest

from recsys.contracts.recommendation import Tier
from recsys.deadline import Deadline
from recsys.errors import ReleaseNotLoaded, UnknownItem, UpstreamUnavailable
from recsys.stages import COMPLETE, FAILURE_POLICY, RequestRun, Stage

FOREVER = 3600.0


async def succeed(result: object) -> object:
    return result


async def fail(error: Exception) -> None:
    raise error


def test_every_stage_has_a_policy() -> None:
    assert set(FAILURE_POLICY) == set(Stage)


def test_later_stages_may_finish_later_and_all_before_the_deadline() -> None:
    parts = [FAILURE_POLICY[stage].finish_by for stage in Stage]
    assert parts == sorted(parts)
    assert parts[0] > 0
    assert parts[-1] < 1


def test_the_fallback_has_time_left_after_every_stage() -> None:
    popular = FAILURE_POLICY[Stage.POPULAR].finish_by
    before_fallback = (Stage.FEATURES, Stage.ENCODE, Stage.RETRIEVE, Stage.RANK)
    assert all(FAILURE_POLICY[stage].finish_by < popular for stage in before_fallback)


async def test_a_stage_that_succeeds_returns_its_result_and_keeps_the_tier() -> None:
    run = RequestRun(Deadline(FOREVER))
    assert await run.run_stage(Stage.RANK, succeed("scores")) == "scores"
    assert (run.tier, run.reason) == (Tier.PERSONALIZED, COMPLETE)
    assert run.timings_ms[Stage.RANK] >= 0


@pytest.mark.parametrize("stage", Stage)
async def test_a_stage_that_fails_lowers_the_tier_as_its_policy_says(stage: Any) -> None:
    run = RequestRun(Deadline(FOREVER))
    assert await run.run_stage(stage, fail(UpstreamUnavailable("cannot be reached"))) is None
    assert run.tier == (FAILURE_POLICY[stage].fallback_tier or Tier.PERSONALIZED)
    assert run.reason == f"{stage}:upstream_unavailable"
    assert stage in run.timings_ms


async def test_a_stage_that_hangs_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    run = RequestRun(Deadline(0.05))
    assert await run.run_stage(Stage.RANK, hang()) is None
    assert cancelled.is_set()
    assert run.reason == "rank:upstream_timeout"


async def test_after_the_deadline_a_stage_does_not_start() -> None:
    run = RequestRun(Deadline(0.0))
    assert await run.run_stage(Stage.RANK, asyncio.sleep(FOREVER)) is None
    assert run.reason == "rank:upstream_timeout"


@pytest.mark.parametrize("error", [TypeError("a bug"), UnknownItem("a caller error")])
async def test_other_errors_raise_and_are_timed(error: TypeError | UnknownItem) -> None:
    run = RequestRun(Deadline(FOREVER))
    with pytest.raises(type(error)):
        await run.run_stage(Stage.RANK, fail(error))
    assert Stage.RANK in run.timings_ms


async def test_a_cancelled_request_is_not_a_failed_stage() -> None:
    run = RequestRun(Deadline(FOREVER))
    task = asyncio.create_task(run.run_stage(Stage.RANK, asyncio.sleep(FOREVER)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.tier == Tier.PERSONALIZED


async def test_the_times_of_a_stage_that_runs_twice_are_added() -> None:
    run = RequestRun(Deadline(FOREVER), timings_ms={Stage.POPULAR: 1000.0})
    await run.run_stage(Stage.POPULAR, succeed([]))
    assert run.timings_ms[Stage.POPULAR] >= 1000.0


async def test_a_tier_never_rises_and_the_first_reason_stays() -> None:
    run = RequestRun(Deadline(FOREVER))
    await run.run_stage(Stage.POPULAR, fail(UpstreamUnavailable("cannot be reached")))
    await run.run_stage(Stage.RANK, fail(ReleaseNotLoaded("not loaded")))
    assert (run.tier, run.reason) == (Tier.STATIC, "popular:upstream_unavailable")


def test_tiers_are_declared_best_first() -> None:
    assert list(Tier) == [Tier.PERSONALIZED, Tier.RETRIEVED, Tier.PRECOMPUTED, Tier.POPULAR, Tier.STATIC]
