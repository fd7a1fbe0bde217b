"""How the quality factor follows latency."""

import random

import pytest

from recsys.contracts.recommendation import RecommendationRequest
from recsys.deadline import Deadline
from recsys.quality import FLOOR, QualityFactor
from tests.unit.pipeline_case import DEADLINE_SECONDS, READER, open_pipeline

TARGET = 0.08


def test_it_is_whole_as_long_as_nothing_is_slow():
    quality = QualityFactor(TARGET)
    for _ in range(100):
        quality.observe(TARGET / 2)
    assert quality.factor == 1.0
    assert quality.part_of(200, at_least=10) == 200


def test_it_falls_to_its_floor_and_comes_back():
    quality = QualityFactor(TARGET)
    for _ in range(100):
        quality.observe(TARGET * 2)
    assert quality.factor == FLOOR
    for _ in range(200):
        quality.observe(TARGET / 2)
    assert quality.factor == 1.0


def test_it_settles_where_one_in_twenty_is_slow():
    """A service whose latency is the width times something random: the factor ends where the 95th percentile is."""
    quality, chance = QualityFactor(TARGET), random.Random(1)
    slow = []
    for _ in range(20_000):
        seconds = quality.factor * TARGET * chance.uniform(0.5, 2.5)
        quality.observe(seconds)
        slow.append(seconds > TARGET)
    assert sum(slow[10_000:]) / 10_000 == pytest.approx(0.05, abs=0.005)


def test_a_width_is_never_below_what_is_asked_for_nor_above_the_full_one():
    quality = QualityFactor(TARGET)
    quality.factor = 0.25
    assert quality.part_of(200, at_least=10) == 50
    assert quality.part_of(200, at_least=100) == 100
    assert quality.part_of(20, at_least=100) == 20


async def test_a_slow_pipeline_retrieves_less():
    quality = QualityFactor(target_seconds=0.0)
    pipeline = await open_pipeline(quality=quality)
    first = await pipeline.recommend(RecommendationRequest(user_id=READER, top_k=1), Deadline(DEADLINE_SECONDS))
    for _ in range(20):
        last = await pipeline.recommend(RecommendationRequest(user_id=READER, top_k=1), Deadline(DEADLINE_SECONDS))
    assert (first.total_candidates, last.total_candidates) == (9, 2)
    assert last.recommendations == first.recommendations
