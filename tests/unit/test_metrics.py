"""Hand-computed tables."""

import math

import numpy as np
import pytest

from training.evaluation.metrics import (
    bootstrap_interval,
    coverage,
    hr_at_k,
    mrr_at_k,
    ndcg_at_k,
    popularity_bias,
    target_ranks,
)

RANKS = np.array([1.0, 2.0, 3.5, 10.0, 11.0])


@pytest.mark.parametrize(("k", "expected"), [(1, 0.2), (2, 0.4), (3, 0.4), (10, 0.8), (200, 1.0)])
def test_hit_rate(k: int, expected: float) -> None:
    assert hr_at_k(RANKS, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, 1 / 5),
        (2, (1 + 1 / math.log2(3)) / 5),
        (10, (1 + 1 / math.log2(3) + 1 / math.log2(4.5) + 1 / math.log2(11)) / 5),
    ],
)
def test_ndcg(k: int, expected: float) -> None:
    assert ndcg_at_k(RANKS, k) == pytest.approx(expected)


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 5), (2, 1.5 / 5), (10, (1 + 1 / 2 + 1 / 3.5 + 1 / 10) / 5)])
def test_mrr(k: int, expected: float) -> None:
    assert mrr_at_k(RANKS, k) == pytest.approx(expected)


def test_ranks_count_ties_as_half_and_filtered_items_not_at_all() -> None:
    inf = math.inf
    scores = np.array(
        [
            [9, 1, 2, 3],  # the best
            [5, 5, 5, 5],  # all equal: in the middle, 1 + 3/2
            [1, 7, 7, 8],  # one above, one equal
            [4, -inf, -inf, 6],  # the filtered ones don't stand before it
        ],
        dtype=np.float32,
    )
    assert target_ranks(scores, np.array([0, 2, 1, 0])).tolist() == [1.0, 2.5, 2.5, 2.0]


def test_coverage_counts_distinct_items() -> None:
    assert coverage(np.array([[0, 1], [1, 2]]), num_items=6) == pytest.approx(0.5)


def test_popularity_bias_is_the_mean_percentile() -> None:
    counts = np.array([10, 0, 5, 5])
    # Percentiles: the most popular has 3.5 of 4 below it, the untouched one 0.5, the two equal ones 2.
    assert popularity_bias(np.array([[0]]), counts) == pytest.approx(3.5 / 4)
    assert popularity_bias(np.array([[1, 2]]), counts) == pytest.approx((0.5 / 4 + 2 / 4) / 2)
    assert popularity_bias(np.array([[0, 1, 2, 3]]), counts) == pytest.approx(0.5)


def test_bootstrap_interval_holds_the_mean_and_is_reproducible() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 400)
    low, high = bootstrap_interval(values, seed=3)
    assert low < values.mean() < high
    # 1.96 standard errors on either side, to within the noise of a thousand resamples.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert bootstrap_interval(values, seed=3) == (low, high)
