"""Ranking metrics for one held-out item per user, and metrics of the recommended lists as a whole.

The rank of a tie is its mean over random orders: 1 + strictly greater scores + half of the other equal scores. A model
that gives many items the same score does not profit from their order.
"""

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.float64]


def target_ranks(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> Ranks:
    """scores [users, items] with -inf for filtered items, targets [users] as columns -> ranks [users], from 1."""
    of_target = scores[np.arange(len(targets)), targets][:, None]
    greater = (scores > of_target).sum(axis=1)
    equal_others = (scores == of_target).sum(axis=1) - 1
    ranks: Ranks = 1.0 + greater + equal_others / 2.0
    return ranks


def hr_at_k(ranks: Ranks, k: int) -> float:
    """Hit rate: the share of users whose item is among the first k. With one held-out item it equals recall."""
    return float(np.mean(ranks <= k))


def ndcg_at_k(ranks: Ranks, k: int) -> float:
    """1 / log2(1 + rank) within the first k, else 0: with one relevant item the ideal gain is 1."""
    return float(np.mean(ndcg_gains(ranks, k)))


def ndcg_gains(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """[users]: each user's NDCG@k."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def mrr_at_k(ranks: Ranks, k: int) -> float:
    """Mean of 1 / rank within the first k, else 0."""
    return float(np.mean(np.where(ranks <= k, 1.0 / ranks, 0.0)))


def coverage(recommended: NDArray[np.int64], num_items: int) -> float:
    """recommended [users, k]: the share of the catalogue that is in at least one list."""
    return len(np.unique(recommended)) / num_items


def popularity_bias(recommended: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Mean popularity percentile (0 to 1) of the recommended items; 0.5 means no popularity bias.

    recommended [users, k] as columns of counts [items]. The percentile is the share of the catalogue's items that are
    less popular, ties counted half, after the average recommendation popularity of Abdollahpouri et al. 2019.
    """
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left")
    not_above = np.searchsorted(ordered, counts, side="right")
    percentile = (below + not_above) / 2.0 / len(counts)
    return float(np.mean(percentile[recommended]))


def bootstrap_interval(values: NDArray[np.float64], seed: int, resamples: int = 1000) -> tuple[float, float]:
    """95% percentile interval of the mean of values [users], over resampled users (Efron 1979)."""
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
