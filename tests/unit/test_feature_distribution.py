"""How far features in serving are from training: computed by hand, and measured on what a champion serves."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import REGISTRY

from ranker_service import skew_monitor
from ranker_service.skew_monitor import SkewMonitor
from recsys.adapters.local_ranker import LocalRanker
from recsys.model import feature_distribution
from recsys.model.feature_distribution import MAX_SAMPLES, FeatureDistribution, Features, FeatureSample
from recsys.model.ranking_feature_names import FEATURE_NAMES

NAN = float("nan")


def column(*values: float) -> Features:
    return np.array(values, dtype=np.float32)[:, None]


def index_of(trained: Features, served: Features) -> list[float]:
    distribution = FeatureDistribution.of([trained])
    return distribution.stability_index(distribution.counts(served)).tolist()


def test_the_index_is_the_sum_over_the_bins() -> None:
    """Training has 1 to 10, one value per bin. In serving, the five lower ones come three times as often."""
    served = column(*range(1, 6), *range(1, 6), *range(1, 6), *range(6, 11))
    expected = 5 * (0.15 - 0.1) * math.log(0.15 / 0.1) + 5 * (0.05 - 0.1) * math.log(0.05 / 0.1)
    assert index_of(column(*range(1, 11)), served) == pytest.approx([expected])


def test_equal_distributions_have_an_index_of_zero() -> None:
    rng = np.random.default_rng(1)
    features = rng.integers(0, 5, (5000, 4)).astype(np.float32)  # many equal values, and so equal deciles
    features[:, 1] = rng.normal(size=5000)
    features[:, 2] = 7
    features[::3, 3] = NAN
    assert index_of(features, features) == [0, 0, 0, 0]
    assert max(index_of(features, features[rng.permutation(5000)[:2500]])) < 0.02


def test_missing_values_are_a_bin() -> None:
    trained = column(*range(1, 100), NAN)
    assert index_of(trained, column(*range(1, 100), NAN)) == [0]
    assert index_of(trained, column(*[NAN] * 100))[0] > 5
    assert index_of(column(NAN, NAN), column(NAN, NAN)) == [0]
    assert index_of(column(NAN, NAN), column(1, 2))[0] > 5


def test_of_many_rows_a_sample_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    matrices = [rng.normal(size=(40, 3)).astype(np.float32) for _ in range(100)]
    all_rows = FeatureDistribution.of(matrices)
    monkeypatch.setattr(feature_distribution, "MAX_ROWS", 1000)
    sampled = FeatureDistribution.of(matrices)
    assert not np.array_equal(sampled.edges, all_rows.edges)
    np.testing.assert_allclose(sampled.edges, all_rows.edges, atol=0.2)


def test_a_sample_takes_a_matrix_now_and_then_and_never_more_than_it_may() -> None:
    now = 0.0
    sample = FeatureSample(FeatureDistribution.of([column(1)]), lambda: now)
    for _ in range(5):
        sample.offer(column(1))
    assert len(sample.take()) == 1
    assert sample.take() == []
    for step in range(MAX_SAMPLES + 10):
        now += 1
        sample.offer(column(step))
    assert [matrix[0, 0] for matrix in sample.take()] == list(range(10, MAX_SAMPLES + 10))


# --- what a champion serves -------------------------------------------------------------------------------------------


class Serving(LocalRanker):
    """A ranker whose champion ranks by the features that the test gives."""

    sample: FeatureSample | None = None

    @property
    def champion_features(self) -> FeatureSample | None:
        return self.sample


@pytest.fixture
def trained() -> FeatureDistribution:
    return FeatureDistribution.of([some_features(seed) for seed in range(200)])


@pytest.fixture
def ranker(trained: FeatureDistribution) -> Iterator[Serving]:
    ranker = Serving()
    ranker.sample = sample_of(trained)
    yield ranker
    skew_monitor.PSI.clear()


def some_features(seed: int) -> Features:
    return np.random.default_rng(seed).normal(size=(50, len(FEATURE_NAMES))).astype(np.float32)


def sample_of(trained: FeatureDistribution) -> FeatureSample:
    ticks = iter(range(10**6))
    return FeatureSample(trained, lambda: next(ticks))


async def serve(monitor: SkewMonitor, sample: FeatureSample, requests: int, shift: float = 0.0) -> None:
    """Rank with the feature `trend` shifted."""
    for number in range(requests):
        features = some_features(1000 + number)
        features[:, FEATURE_NAMES.index("trend")] += shift
        sample.offer(features)
        if number % 50 == 49:
            await monitor.measure()


def psi(feature: str) -> float | None:
    return REGISTRY.get_sample_value("tandem_feature_psi", {"feature": feature})


@pytest.mark.parametrize(("shift", "is_skewed"), [(0.0, False), (1.0, True)])
async def test_a_shifted_feature_is_seen(ranker: Serving, shift: float, is_skewed: bool) -> None:
    assert ranker.sample is not None
    await serve(SkewMonitor(ranker), ranker.sample, 200, shift)
    trend, other = psi("trend"), psi("log_age")
    assert trend is not None
    assert other is not None
    assert (trend > 0.2) == is_skewed
    assert other < 0.1


async def test_few_requests_say_nothing_and_a_new_champion_starts_from_nothing(
    ranker: Serving, trained: FeatureDistribution
) -> None:
    monitor = SkewMonitor(ranker)
    assert ranker.sample is not None
    await serve(monitor, ranker.sample, 150)
    assert psi("trend") is None
    await serve(monitor, ranker.sample, 50)
    assert psi("trend") is not None
    ranker.sample = sample_of(trained)
    await serve(monitor, ranker.sample, 150)
    assert psi("trend") is None


async def test_old_requests_are_forgotten(ranker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skew_monitor, "WINDOW", 200)
    monitor = SkewMonitor(ranker)
    assert ranker.sample is not None
    await serve(monitor, ranker.sample, 200, shift=1.0)
    await serve(monitor, ranker.sample, 200)
    trend = psi("trend")
    assert trend is not None
    assert trend < 0.1


async def test_without_a_champion_there_is_nothing_to_compare() -> None:
    await SkewMonitor(LocalRanker()).measure()
    assert psi("trend") is None
