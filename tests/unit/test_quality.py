"""How the quality factor follows latency, and which requests it follows."""

import asyncio
import random
import time
from typing import Any

import pytest

from recsys.adapters.in_memory import InMemoryRanker
from recsys.contracts.recommendation import RecommendationRequest, Tier
from recsys.deadline import LONGEST_MS, Deadline
from recsys.errors import UpstreamTimeout, UpstreamUnavailable
from recsys.quality import FLOOR, SLOW, STEP, QualityFactor
from recsys.stages import RequestRun, Stage
from tests.unit.pipeline_case import (
    DEADLINE_SECONDS,
    READER,
    RELEASE,
    VECTORS,
    Broken,
    open_pipeline,
    recommend,
)

DEADLINE = 0.2
TARGET = SLOW * DEADLINE


def took(seconds: float, *, deadline_seconds: float = DEADLINE) -> RequestRun:
    """A recommendation whose model stages have just ended, after `seconds`."""
    return RequestRun(Deadline(deadline_seconds, time.perf_counter() - seconds))


def test_it_is_one_while_nothing_is_slow() -> None:
    quality = QualityFactor(DEADLINE)
    for _ in range(100):
        quality.observe(took(TARGET / 2))
    assert quality.factor == 1.0
    assert quality.scale(200, at_least=10) == 200


def test_it_falls_to_its_floor_and_recovers() -> None:
    quality = QualityFactor(DEADLINE)
    for _ in range(100):
        quality.observe(took(TARGET * 2))
    assert quality.factor == FLOOR
    for _ in range(200):
        quality.observe(took(TARGET / 2))
    assert quality.factor == 1.0


def test_it_settles_when_one_in_twenty_is_slow() -> None:
    """Latency is the factor times a random number: the factor settles when the 95th percentile meets the target."""
    quality, rng = QualityFactor(DEADLINE), random.Random(1)
    slow = []
    for _ in range(20_000):
        seconds = quality.factor * TARGET * rng.uniform(0.5, 2.5)
        quality.observe(took(seconds))
        slow.append(seconds > TARGET)
    assert sum(slow[10_000:]) / 10_000 == pytest.approx(0.05, abs=0.005)


def test_the_number_of_candidates_stays_between_at_least_and_the_full_number() -> None:
    quality = QualityFactor(DEADLINE)
    quality.factor = 0.25
    assert quality.scale(200, at_least=10) == 50
    assert quality.scale(200, at_least=100) == 100
    assert quality.scale(20, at_least=100) == 20


@pytest.mark.parametrize("stage", [Stage.ENCODE, Stage.RETRIEVE, Stage.RANK])
def test_a_timeout_of_a_model_stage_is_slow_however_early_it_comes(stage: Stage) -> None:
    quality, run = QualityFactor(DEADLINE), took(0.0)
    run.timed_out.add(stage)
    run.degrade_to(Tier.PRECOMPUTED, "timeout")
    quality.observe(run)
    assert quality.factor < 1.0


@pytest.mark.parametrize("deadline_seconds", [DEADLINE / 2, DEADLINE * 2, LONGEST_MS / 1000, float("inf")])
def test_requests_with_another_deadline_are_ignored(deadline_seconds: float) -> None:
    quality, run = QualityFactor(DEADLINE), took(TARGET * 1.1, deadline_seconds=deadline_seconds)
    run.timed_out.add(Stage.RANK)
    quality.observe(run)
    assert quality.factor == 1.0
    quality.factor = FLOOR
    quality.observe(took(0.0, deadline_seconds=deadline_seconds))
    assert quality.factor == FLOOR


async def test_a_slow_pipeline_retrieves_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.quality.SLOW", 0.0)
    pipeline = await open_pipeline(quality=QualityFactor(DEADLINE_SECONDS))
    first = await recommend(pipeline, top_k=1)
    for _ in range(20):
        last = await recommend(pipeline, top_k=1)
    assert (first.total_candidates, last.total_candidates) == (9, 2)
    assert last.recommendations == first.recommendations


class SlowRanker(InMemoryRanker):
    """Takes longer than the whole deadline."""

    async def rank(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(DEADLINE_SECONDS)


SLOW_PORTS = {
    "encode": {"encoder": Broken(UpstreamTimeout("late"))},
    "retrieve": {"index": Broken(UpstreamTimeout("late"))},
    "retrieve hangs": {"index": Broken(None)},
    "rank": {"ranker": Broken(UpstreamTimeout("late"))},
    "rank hangs": {"ranker": SlowRanker(RELEASE, VECTORS)},
}


@pytest.mark.parametrize("ports", SLOW_PORTS.values(), ids=SLOW_PORTS)
async def test_the_pipeline_reports_timeouts_as_slow(ports: list[int]) -> None:
    quality = QualityFactor(DEADLINE_SECONDS)
    await recommend(await open_pipeline(**ports, quality=quality))
    assert quality.factor < 1.0


@pytest.mark.parametrize("port", ["encoder", "index", "ranker"])
async def test_a_failure_without_a_timeout_is_neither_slow_nor_fast(port: str) -> None:
    quality = QualityFactor(DEADLINE_SECONDS)
    quality.factor = 0.5
    await recommend(await open_pipeline(**{port: Broken(UpstreamUnavailable("refused"))}, quality=quality))
    assert quality.factor == 0.5


async def test_requests_that_retrieve_nothing_are_ignored() -> None:
    quality = QualityFactor(DEADLINE_SECONDS)
    quality.factor = 0.5
    pipeline = await open_pipeline(quality=quality)
    await recommend(pipeline, "newcomer")
    await recommend(pipeline, candidate_items=["i1"])
    assert quality.factor == 0.5
    await recommend(pipeline)
    assert quality.factor == 0.5 + STEP


async def test_shadow_requests_are_ignored_whatever_their_deadline() -> None:
    quality = QualityFactor(DEADLINE_SECONDS)
    quality.factor = 0.5
    pipeline = await open_pipeline(quality=quality)
    for seconds in (DEADLINE_SECONDS, LONGEST_MS / 1000):
        with Deadline(seconds).activate():
            await pipeline.recommend(RecommendationRequest(user_id=READER), shadow=True)
    assert quality.factor == 0.5
