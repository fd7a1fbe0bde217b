"""The distribution of the ranking features in training, and how far that in serving is from it.

The population stability index (PSI) of a feature is the sum over its bins of (served - trained) * ln(served / trained),
with the shares of values in a bin. It has long been used to monitor credit scores. Below 0.1 is usually called stable,
and above 0.2 or 0.25 a shift (Siddiqi 2006, "Credit Risk Scorecards"; Yurdakul and Naranjo 2020, "Statistical
properties of the population stability index", Journal of Risk Model Validation 14(4)).
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""By the deciles in training, and one more for missing values."""
MAX_ROWS = 100_000
"""Of training, from which the deciles are computed."""
SMALLEST_SHARE = 1e-4
"""In place of smaller ones, whose logarithm would say little but how many values there were."""
SECONDS_BETWEEN_SAMPLES = 0.5
MAX_SAMPLES = 64
"""Matrices that wait, of about 54 kB each. With more, the oldest is dropped."""

Features = NDArray[np.float32]
Counts = NDArray[np.int64]
"""[features, BINS + 1]"""


@dataclass(frozen=True)
class FeatureDistribution:
    edges: Features
    """[features, BINS - 1]: the deciles, ascending. A value that equals one is in the bin below it."""
    shares: NDArray[np.float64]
    """[features, BINS + 1]: of all values, in each bin; the last bin has those that are missing."""

    @classmethod
    def of(cls, matrices: Sequence[Features]) -> Self:
        """matrices [candidates, features] of examples, at least one."""
        step = max(1, -(-sum(map(len, matrices)) // MAX_ROWS))
        rows = np.concatenate([matrix[place % step :: step] for place, matrix in enumerate(matrices)])
        edges = np.zeros((rows.shape[1], BINS - 1), dtype=np.float32)
        for column, values in enumerate(rows.T):
            present = values[~np.isnan(values)]
            if len(present):
                edges[column] = np.quantile(present, np.arange(1, BINS) / BINS, method="lower")
        counts = cls(edges, np.empty(0)).counts(rows)
        return cls(edges, counts / len(rows))

    def counts(self, matrix: Features) -> Counts:
        """How many values of [candidates, features] are in each bin."""
        bins = (matrix[:, :, None] > self.edges).sum(axis=2)
        bins[np.isnan(matrix)] = BINS
        size = BINS + 1
        places = bins + size * np.arange(len(self.edges))
        return np.bincount(places.ravel(), minlength=size * len(self.edges)).reshape(-1, size)

    def stability_index(self, counts: Counts) -> NDArray[np.float64]:
        """[features]: the PSI of the counted values."""
        served = np.maximum(counts / counts.sum(axis=1, keepdims=True), SMALLEST_SHARE)
        trained = np.maximum(self.shares, SMALLEST_SHARE)
        index: NDArray[np.float64] = ((served - trained) * np.log(served / trained)).sum(axis=1)
        return index

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"distribution.edges": self.edges, "distribution.shares": self.shares}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self | None:
        """None if there are none of them. Raises KeyError if one is missing."""
        if "distribution.edges" not in tensors:
            return None
        return cls(tensors["distribution.edges"], tensors["distribution.shares"])


class FeatureSample:
    """A few of the matrices that a release ranks by, for a comparison with training off the request path."""

    def __init__(self, trained: FeatureDistribution, clock: Callable[[], float] = time.monotonic) -> None:
        self.trained = trained
        self._clock = clock
        self._next = float("-inf")
        self._waiting: deque[Features] = deque(maxlen=MAX_SAMPLES)

    def offer(self, matrix: Features) -> None:
        """Keep a matrix, which must not change any more, unless another one was kept a moment ago."""
        now = self._clock()
        if now >= self._next:
            self._next = now + SECONDS_BETWEEN_SAMPLES
            self._waiting.append(matrix)

    def take(self) -> list[Features]:
        """The kept matrices, which are then forgotten."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]
