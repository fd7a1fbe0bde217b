"""What was served, on its way to the event log: buffered in memory, and sent in batches, off the request path."""

import asyncio
import uuid
from collections import deque
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Gauge

from recsys import clock
from recsys.contracts.event_log import Impression, ImpressionBatch
from recsys.contracts.recommendation import Exploration, RecommendationResponse, Tier
from recsys.errors import UpstreamError
from recsys.ports import EventLog

MAX_WAITING = 10_000
"""Impressions in memory, about 1 kB each. Further ones are dropped."""
MAX_BATCH, MAX_BATCH_ITEMS = 200, 900
"""Impressions per batch, and the item ids in them: even the longest ids fit into a request body of 1 MB."""
SECONDS_BETWEEN = 2.0
"""A batch costs as much CPU as some 40 impressions in it, so it should not be small."""
CLOSE_SECONDS = 1.0
"""How long a shutdown waits for the last batches."""

WAITING = Gauge("tandem_impressions_waiting", "Served recommendations that are not in the event log yet.")
DROPPED = Counter(
    "tandem_impressions_dropped_total", "Served recommendations that are missing in the event log.", ["reason"]
)
BUFFER_FULL, REFUSED, STOPPED = (DROPPED.labels(reason) for reason in ("buffer_full", "refused", "stopped"))

log = structlog.get_logger()


class _Served(NamedTuple):
    """The fields of an impression: a tuple costs the request less than a model."""

    recommendation_id: str
    user_id: str
    item_ids: list[str]
    release_version: int | None
    variant: str
    tier: Tier
    tier_reason: str
    placement: str
    took_ms: float
    exploration: Exploration | None
    server_time: float


class ImpressionBuffer:
    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._waiting: deque[_Served] = deque()
        self._sending: ImpressionBatch | None = None
        """The batch that was sent last and not acknowledged. It is sent again with the same id."""
        WAITING.set_function(lambda: len(self._waiting))

    def add(self, response: RecommendationResponse, placement: str) -> None:
        """Remember a response that is about to be sent; drop it if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            BUFFER_FULL.inc()
            return
        self._waiting.append(
            _Served(
                response.recommendation_id,
                response.user_id,
                [item.item_id for item in response.recommendations],
                response.release_version,
                response.variant,
                response.tier,
                response.tier_reason,
                placement,
                response.timings_ms["total"],
                response.exploration,
                clock.now(),
            )
        )

    async def run(self) -> None:
        """Send for ever what was added."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN)
            await self.send()

    async def send(self) -> None:
        """Send what was added. What the upstream cannot take now stays, and what it refuses for ever is dropped."""
        while self._sending is not None or self._waiting:
            self._sending = self._sending or self._next_batch()
            try:
                await self._event_log.append(self._sending)
            except UpstreamError as error:
                log.info("impressions_not_sent", waiting=len(self._waiting), problem=str(error))
                return
            except Exception:  # also if it is a bug: later impressions must not wait for this batch
                REFUSED.inc(len(self._sending.impressions))
                log.exception("impressions_refused")
            self._sending = None

    async def close(self) -> None:
        """Send what was added, as far as it takes little time."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.send()
        except TimeoutError:
            log.warning("impressions_not_sent_in_time")
        STOPPED.inc(len(self._waiting) + (len(self._sending.impressions) if self._sending else 0))

    def _next_batch(self) -> ImpressionBatch:
        impressions: list[Impression] = []
        items = 0
        while self._waiting and len(impressions) < MAX_BATCH:
            items += len(self._waiting[0].item_ids)
            if impressions and items > MAX_BATCH_ITEMS:
                break
            impressions.append(Impression.model_construct(**self._waiting.popleft()._asdict()))
        return ImpressionBatch.model_construct(batch_id=uuid.uuid4().hex, impressions=impressions)
