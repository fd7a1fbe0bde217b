"""How the quality factor follows latency."""

import random

import pytest

from recsys.quality import FLOOR, QualityFactor
from tests.unit.pipeline_case import open_pipeline, recommend

TARGET = 0.08


def test_it_is_one_while_nothing_is_slow():
    quality = QualityFactor(TARGET)
    for _ in range(100):
        quality.observe(TARGET / 2)
    assert quality.factor == 1.0
    assert quality.scale(200, at_least=10) == 200


def test_it_falls_to_its_floor_and_recovers():
    quality = QualityFactor(TARGET)
    for _ in range(100):
        quality.observe(TARGET * 2)
    assert quality.factor == FLOOR
    for _ in range(200):
        quality.observe(TARGET / 2)
    assert quality.factor == 1.0


def test_it_settles_when_one_in_twenty_is_slow():
    """Latency is the factor times a random number: the factor settles when the 95th percentile meets the target."""
    quality, rng = QualityFactor(TARGET), random.Random(1)
    slow = []
    for _ in range(20_000):
        seconds = quality.factor * TARGET * rng.uniform(0.5, 2.5)
        quality.observe(seconds)
        slow.append(seconds > TARGET)
    assert sum(slow[10_000:]) / 10_000 == pytest.approx(0.05, abs=0.005)


def test_the_number_of_candidates_stays_between_at_least_and_the_full_number():
    quality = QualityFactor(TARGET)
    quality.factor = 0.25
    assert quality.scale(200, at_least=10) == 50
    assert quality.scale(200, at_least=100) == 100
    assert quality.scale(20, at_least=100) == 20


async def test_a_slow_pipeline_retrieves_less():
    quality = QualityFactor(target_seconds=0.0)
    pipeline = await open_pipeline(quality=quality)
    first = await recommend(pipeline, top_k=1)
    for _ in range(20):
        last = await recommend(pipeline, top_k=1)
    assert (first.total_candidates, last.total_candidates) == (9, 2)
    assert last.recommendations == first.recommendations
