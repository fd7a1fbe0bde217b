"""Watches the event log in Redis: how long it is, and how far the collector is behind."""

import asyncio
from collections.abc import Mapping

import structlog
from prometheus_client import Gauge
from pydantic_core import from_json

from recsys import clock
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.contracts.event_log import LogTable
from recsys.errors import UpstreamError

SECONDS_BETWEEN = 5.0

ENTRIES = Gauge("tandem_log_entries", "Entries of the event log in Redis, which are not in files yet.", ["table"])
FILL = Gauge(
    "tandem_log_fill_ratio", "Length of the fullest stream of the event log, relative to its bound.", ["table"]
)
LAG = Gauge("tandem_log_lag_seconds", "Age of the oldest entry of the event log in Redis.", ["table"])

log = structlog.get_logger()


class RedisLogStatus:
    def __init__(self, redis: Client, *, max_log_entries: int) -> None:
        self._redis = redis
        self._max_log = max_log_entries // keys.BUCKETS

    async def run(self) -> None:
        """Measure for ever. If the log cannot be measured, the last measurement stays."""
        while True:
            try:
                for table in LogTable:
                    await self.measure(table)
            except UpstreamError as error:
                log.warning("event_log_not_measured", error=str(error))
            await asyncio.sleep(SECONDS_BETWEEN)

    async def measure(self, table: LogTable) -> None:
        """Update the metrics. Raises UpstreamError."""
        streams = [keys.log_key(table, bucket) for bucket in range(keys.BUCKETS)]
        pipeline = self._redis.pipeline(transaction=False)
        for stream in streams:
            pipeline.xlen(stream)
            pipeline.xrange(stream, count=1)
        with translated_errors():
            replies = await pipeline.execute()
        lengths, first = replies[::2], [entries[0] for entries in replies[1::2] if entries]
        oldest = min((_logged_at(*entry) for entry in first), default=None)
        ENTRIES.labels(table).set(sum(lengths))
        FILL.labels(table).set(max(lengths) / self._max_log)
        LAG.labels(table).set(0 if oldest is None else max(0.0, clock.now() - oldest))


def _logged_at(stream_id: str, fields: Mapping[str, str]) -> float:
    """The `server_time` of an entry; the time that Redis gave it, if it cannot be read."""
    try:
        return float(from_json(fields["entry"])["server_time"])
    except (ValueError, TypeError, KeyError):
        return int(stream_id.split("-")[0]) / 1000
