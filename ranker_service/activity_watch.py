"""Follows the live activity of items: reads from the feature service what was counted, and gives it to the releases."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import structlog
from prometheus_client import Gauge

from recsys import clock
from recsys.adapters.local_ranker import LocalRanker
from recsys.errors import UpstreamError
from recsys.model.live_activity import LiveDay
from recsys.ports import ItemActivity

AGE = Gauge(
    "tandem_live_activity_age_seconds",
    "Time since the live activity of items was last read; since the start, if it never was.",
)

PAUSE_RATIO = 20
"""The pause after an update is at least this many times as long as the update: those of a large catalogue take long."""

log = structlog.get_logger()


class ActivityWatch:
    """While the activity cannot be read, releases keep what they have: the last one, and before it their own."""

    def __init__(
        self,
        source: ItemActivity | None,
        ranker: LocalRanker,
        seconds_between: float,
    ) -> None:
        """Without a source, releases keep their own activity, and the metric says so."""
        self._source = source
        self._ranker = ranker
        self._seconds_between = seconds_between
        self._days: dict[int, LiveDay] = {}
        self._read_at = clock.now()
        # The thread takes at most one core from requests, and NumPy lets them run meanwhile.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="activity")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        while True:
            started = time.monotonic()
            await self.follow()
            await asyncio.sleep(max(self._seconds_between, PAUSE_RATIO * (time.monotonic() - started)))

    async def follow(self) -> None:
        """Read what has changed, and update the releases. What is loaded later gets what was read last."""
        try:
            if self._source is not None:
                await self._read(self._source)
                self._read_at = clock.now()
        except UpstreamError as error:
            log.warning("live_activity_not_read", problem=str(error))
        except Exception:  # a bug; the next attempt may still succeed
            log.exception("live_activity_failed")
        await self._update()
        AGE.set(clock.now() - self._read_at)

    async def _read(self, source: ItemActivity) -> None:
        """Read the days that a release needs and that have changed."""
        days = dict[int, LiveDay]()
        firsts = [release.live_since for release in self._ranker.releases_in_memory]
        for active in await source.active_days():
            known = self._days.get(active.day)
            if known is not None and known.events == active.events:
                days[active.day] = known
            elif any(first is not None and first <= active.day for first in firsts):
                found = await source.day_activity(active.day)
                if found is not None:
                    days[active.day] = LiveDay.of(found)
        self._days = days

    async def _update(self) -> None:
        """Give the live activity to every release that does not have all events yet."""
        loop = asyncio.get_running_loop()
        for release in self._ranker.releases_in_memory:
            since = release.live_since
            days = [] if since is None else [day for day in self._days.values() if day.day >= since]
            if sum(day.events for day in days) != release.live_events:
                updated = await loop.run_in_executor(self._thread, release.with_live_activity, days, clock.now())
                self._ranker.replace(release, updated)
