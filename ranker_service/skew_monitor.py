"""Compares the features that the champion ranks by with those that it was trained on."""

import asyncio
from collections import deque
from collections.abc import Sequence

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Gauge

from recsys.adapters.local_ranker import LocalRanker
from recsys.model.feature_distribution import FeatureDistribution, Features, FeatureSample
from recsys.model.ranking_feature_names import FEATURE_NAMES

SECONDS_BETWEEN = 10.0
WINDOW = 1000
"""The latest sampled requests that are compared, 3 kB each."""
LEAST = 200
"""With fewer requests, chance alone would give an index of more than 0.05."""

PSI = Gauge(
    "tandem_feature_psi",
    "Population stability index of a ranking feature of the champion: how far serving is from training.",
    ["feature"],
)

log = structlog.get_logger()


class SkewMonitor:
    def __init__(self, ranker: LocalRanker) -> None:
        self._ranker = ranker
        self._sample: FeatureSample | None = None
        self._window: deque[NDArray[np.int32]] = deque(maxlen=WINDOW)
        """Per request [features, bins]: counts."""

    async def run(self) -> None:
        while True:
            try:
                await self.measure()
            except Exception:  # a bug; it must not end the monitor
                log.exception("skew_not_measured")
            await asyncio.sleep(SECONDS_BETWEEN)

    async def measure(self) -> None:
        """Add what was sampled since the last time, and update the metric. A new champion starts from nothing."""
        sample = self._ranker.champion_features
        if sample is not self._sample:
            self._sample = sample
            self._window.clear()
            PSI.clear()
        if sample is None or not (matrices := sample.take()):
            return
        index = await asyncio.to_thread(self._compare, sample.trained, matrices)
        if index is not None:
            for name, value in zip(FEATURE_NAMES, index.tolist(), strict=True):
                PSI.labels(name).set(value)

    def _compare(self, trained: FeatureDistribution, matrices: Sequence[Features]) -> NDArray[np.float64] | None:
        """[features]; None while there are too few requests."""
        self._window.extend(trained.counts(matrix).astype(np.int32) for matrix in matrices)
        return trained.stability_index(np.sum(self._window, axis=0)) if len(self._window) >= LEAST else None
