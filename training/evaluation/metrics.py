"""Ranking metrics of one held-out item per user, and what the recommended lists look like as a whole.

Ties are counted as a random order would on average: rank = 1 + strictly greater + half of the other equal ones. A model
that gives many items one score thus gains nothing by the order in which they happen to stand.
"""

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.float64]


def target_ranks(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> Ranks:
    """scores [users, items] with -inf for what is filtered, targets [users] as columns -> ranks [users], from 1."""
    of_target = scores[np.arange(len(targets)), targets][:, None]
    greater = (scores > of_target).sum(axis=1)
    equal_others = (scores == of_target).sum(axis=1) - 1
    ranks: Ranks = 1.0 + greater + equal_others / 2.0
    return ranks


def hr_at_k(ranks: Ranks, k: int) -> float:
    """Hit rate, which with one held-out item is recall: the share of users whose item is among the first k."""
    return float(np.mean(ranks <= k))


def ndcg_at_k(ranks: Ranks, k: int) -> float:
    """With one relevant item the ideal gain is 1, so NDCG is 1 / log2(1 + rank) within the first k and 0 beyond."""
    return float(np.mean(ndcg_gains(ranks, k)))


def ndcg_gains(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """[users]: each user's NDCG@k."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def mrr_at_k(ranks: Ranks, k: int) -> float:
    """Mean of 1 / rank within the first k and 0 beyond."""
    return float(np.mean(np.where(ranks <= k, 1.0 / ranks, 0.0)))


def coverage(recommended: NDArray[np.int64], num_items: int) -> float:
    """recommended [users, k]: the share of the catalogue that is in anybody's list."""
    return len(np.unique(recommended)) / num_items


def popularity_bias(recommended: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Mean popularity percentile (0 to 1) of what is recommended; 0.5 would be no preference for the popular.

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
