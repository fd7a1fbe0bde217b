"""The port ReleaseReports in Redis: one key, which every report replaces."""

from recsys.adapters.redis_client import Client, translated_errors
from recsys.adapters.redis_keys import RELEASES_REPORT
from recsys.contracts.release_report import ReleasesReport


class RedisReports:
    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def publish(self, report: ReleasesReport) -> None:
        with translated_errors():
            await self._redis.set(RELEASES_REPORT, report.model_dump_json())

    async def releases(self) -> ReleasesReport:
        with translated_errors():
            text = await self._redis.get(RELEASES_REPORT)
        return ReleasesReport() if text is None else ReleasesReport.model_validate_json(text)
