"""The port EventLog in Redis: streams that are bounded, because only a collector empties them."""

from collections.abc import Callable

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, translated_errors
from recsys.adapters.redis_scripts import APPEND_IMPRESSIONS, run_script
from recsys.adapters.upstream import REDIS
from recsys.contracts.event_log import ImpressionBatch, ImpressionsAppended, LogTable
from recsys.errors import StorageFull

MAX_LOG_ENTRIES = 400_000
"""Default bound of entries per table. An event takes about 300 bytes, an impression of ten items about 360."""
BATCH_TTL_SECONDS = 3600
"""How long a batch of impressions is recognised when it is sent again."""
FULL = -1
"""What the scripts return if a stream has no room."""


def log_is_full() -> StorageFull:
    return StorageFull(f"the event log in {REDIS} is full until the collector stores it; nothing new is taken")


class RedisEventLog:
    def __init__(
        self,
        redis: Client,
        *,
        is_full: Callable[[], bool] = lambda: False,
        max_log_entries: int = MAX_LOG_ENTRIES,
    ) -> None:
        """`is_full`: whether Redis has no room for impressions. `max_log_entries`: those that may wait in the log."""
        self._redis = redis
        self._is_full = is_full
        self._max_log = max_log_entries // keys.BUCKETS

    async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
        if self._is_full():
            raise log_is_full()
        bucket = keys.bucket_of(batch.batch_id)
        touched = [keys.log_key(LogTable.IMPRESSIONS, bucket), keys.batch_key(bucket, batch.batch_id)]
        entries = [impression.model_dump_json() for impression in batch.impressions]
        with translated_errors():
            appended = await run_script(
                self._redis, APPEND_IMPRESSIONS, touched, [self._max_log, BATCH_TTL_SECONDS, *entries]
            )
        if appended == FULL:
            raise log_is_full()
        return ImpressionsAppended(appended=appended)
