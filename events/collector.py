"""Moves the event log from Redis into files, and removes from Redis what is stored.

A batch is read, written, and then forgotten. A collector that is killed in between gets the same batch again, and
writes the same files again. So each entry is in the files once, and two collectors at the same time do no harm.
"""

import asyncio

import structlog
from prometheus_client import Counter

from events.log_files import LogFiles
from recsys.adapters.redis_keys import BUCKETS
from recsys.adapters.redis_log_reader import LogBatch, RedisLogReader
from recsys.contracts.event_log import LogTable
from recsys.errors import DataError, UpstreamError
from recsys.web.readiness import OK

MAX_BATCH = 5_000
"""Entries per batch, which is held in memory."""

ROWS = Counter("tandem_log_rows_total", "Rows of the event log written to files.", ["table"])
FILES = Counter("tandem_log_files_total", "Files of the event log written.", ["table"])
FAILURES = Counter("tandem_log_failures_total", "Passes over the streams that did not store everything.")

log = structlog.get_logger()


class Collector:
    def __init__(self, reader: RedisLogReader, files: LogFiles, *, seconds: float) -> None:
        """`seconds` is the time between two passes."""
        self._reader = reader
        self._files = files
        self._seconds = seconds
        self.state = "nothing was collected yet"
        """`ok`, or what was wrong with the last pass."""

    async def run(self) -> None:
        """Collect for ever. What fails is tried again with the next pass, even if it failed because of a bug."""
        while True:
            try:
                await self.collect()
            except Exception as error:
                self.state = f"the pass failed: {type(error).__name__}"
                FAILURES.inc()
                log.exception("log_not_collected")
            await asyncio.sleep(self._seconds)

    async def collect(self) -> None:
        """One pass: store what is in the streams. A stream that fails does not keep the others back."""
        state = OK
        for table in LogTable:
            for bucket in range(BUCKETS):
                try:
                    await self._collect_stream(table, bucket)
                except (UpstreamError, OSError, DataError) as error:
                    state = str(error)
        if state != OK:
            FAILURES.inc()
            log.warning("log_not_collected", problem=state)
        self.state = state

    async def _collect_stream(self, table: LogTable, bucket: int) -> None:
        while (batch := await self._reader.next_batch(table, bucket, MAX_BATCH)).ids:
            await self._store(batch)

    async def _store(self, batch: LogBatch) -> None:
        written = await asyncio.to_thread(
            self._files.write, batch.table, batch.bucket, batch.ids[0], batch.ids[-1], batch.entries
        )
        await self._reader.forget(batch)
        ROWS.labels(batch.table).inc(len(batch.ids))
        FILES.labels(batch.table).inc(written)
