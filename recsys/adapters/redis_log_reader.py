"""Reads the event log in Redis, batch by batch, and removes what is stored elsewhere.

The streams have one consumer group with one consumer. A batch stays pending until it is forgotten, so after a crash,
and in a second collector that runs at the same time, it is the same batch again.
"""

from dataclasses import dataclass

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.adapters.redis_scripts import FORGET_LOG_BATCH, NEXT_LOG_BATCH, run_script
from recsys.contracts.event_log import LogTable

GROUP = "collector"


@dataclass(frozen=True, slots=True)
class LogBatch:
    table: LogTable
    bucket: int
    ids: list[str]
    """Ids in the stream, ascending, as `<milliseconds>-<number>`."""
    entries: list[str]
    """JSON, in the order of the ids."""


class RedisLogReader:
    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def next_batch(self, table: LogTable, bucket: int, max_entries: int) -> LogBatch:
        """The oldest entries of a stream; empty if there are none. Raises UpstreamError."""
        with translated_errors():
            found = await run_script(self._redis, NEXT_LOG_BATCH, [keys.log_key(table, bucket)], [GROUP, max_entries])
        return LogBatch(table, bucket, [stream_id for stream_id, _ in found], [fields[1] for _, fields in found])

    async def forget(self, batch: LogBatch) -> None:
        """Remove a batch that is stored elsewhere. Forgetting it again changes nothing. Raises UpstreamError."""
        milliseconds, number = batch.ids[-1].split("-")
        after_last = f"{milliseconds}-{int(number) + 1}"
        with translated_errors():
            await run_script(
                self._redis,
                FORGET_LOG_BATCH,
                [keys.log_key(batch.table, batch.bucket)],
                [GROUP, after_last, *batch.ids],
            )
