"""Measures the recall of retrieval: repeats a small sample of the searches exactly, off the request path."""

import asyncio
import random
import time
from collections.abc import Callable

import structlog
from prometheus_client import Counter, Histogram

from recsys.contracts.recall import Retrieval
from recsys.errors import Overloaded, UpstreamOverloaded
from recsys.ports import RecallReference

SECONDS_BETWEEN = 1.0
"""Minimum time between two checks. With a million items a check takes about 100 ms of CPU that requests also need."""
CHECK_SECONDS = 5.0
"""A check that takes longer is cancelled, so that the next one can run."""
LOG_SECONDS = 60.0
"""Minimum time between two log lines about failures."""

RECALL = Histogram(
    "tandem_retrieval_recall",
    "Fraction of the nearest items that retrieval found, for a sample of requests.",
    ["release"],
    buckets=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
)
CHECKS = Counter("tandem_retrieval_recall_checks_total", "Recall checks by outcome.", ["outcome"])
MEASURED, SKIPPED, FAILED = (CHECKS.labels(outcome) for outcome in ("measured", "skipped", "failed"))

log = structlog.get_logger()


class RecallMonitor:
    """Runs one check at a time. Samples that arrive during a check are skipped, not queued."""

    def __init__(
        self,
        reference: RecallReference,
        sample: float,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sample` is the fraction of retrievals to check; `draw` returns random numbers in [0, 1)."""
        self._reference = reference
        self._sample = sample
        self._draw = draw
        self._clock = clock
        self._check: asyncio.Task[None] | None = None
        self._next_check = float("-inf")
        self._next_log = float("-inf")

    def on_retrieved(self, retrieval: Retrieval) -> None:
        """Start a check if this retrieval is sampled. Never waits and never raises."""
        if self._draw() >= self._sample:
            return
        now = self._clock()
        if now < self._next_check or (self._check is not None and not self._check.done()):
            SKIPPED.inc()
            return
        self._next_check = now + SECONDS_BETWEEN
        self._check = asyncio.create_task(self._measure(retrieval))

    async def close(self) -> None:
        if self._check is not None:
            self._check.cancel()
            await asyncio.gather(self._check, return_exceptions=True)

    async def _measure(self, retrieval: Retrieval) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                measurement = await self._reference.recall(retrieval)
        except (Overloaded, UpstreamOverloaded):  # the ranker is running another orchestrator's check
            SKIPPED.inc()
        except Exception:
            FAILED.inc()
            self._log_failure(retrieval.release_version)
        else:
            MEASURED.inc()
            RECALL.labels(retrieval.release_version).observe(measurement.recall)

    def _log_failure(self, release_version: int) -> None:
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + LOG_SECONDS
            log.warning("recall_check_failed", release=release_version, exc_info=True)
