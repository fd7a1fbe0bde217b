"""Watches what retrieval finds: a small share of the searches is repeated exactly, off the request path."""

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
"""From one check to the next, at least. With a million items one takes some 100 ms of a core that requests need too."""
CHECK_SECONDS = 5.0
"""A check that takes longer is given up, so that the next one can be made."""
LOG_SECONDS = 60.0
"""From one log line about failures to the next."""

RECALL = Histogram(
    "tandem_retrieval_recall",
    "Part of the nearest items that retrieval found, for a sample of requests.",
    ["release"],
    buckets=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
)
CHECKS = Counter("tandem_retrieval_recall_checks_total", "Checks of retrieval by what became of them.", ["outcome"])
MEASURED, SKIPPED, FAILED = (CHECKS.labels(outcome) for outcome in ("measured", "skipped", "failed"))

log = structlog.get_logger()


class RecallMonitor:
    """Makes one check at a time; what is sampled meanwhile is skipped rather than queued."""

    def __init__(
        self,
        reference: RecallReference,
        sample: float,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sample` is the share of retrievals that are checked; `draw` returns numbers in [0, 1)."""
        self._reference = reference
        self._sample = sample
        self._draw = draw
        self._clock = clock
        self._check: asyncio.Task[None] | None = None
        self._next_check = float("-inf")
        self._next_log = float("-inf")

    def on_retrieved(self, retrieval: Retrieval) -> None:
        """Start a check, perhaps; never waits and never raises."""
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
        except (Overloaded, UpstreamOverloaded):  # another orchestrator's check is under way
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
