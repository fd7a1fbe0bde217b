"""The last report on releases, kept for some seconds, so that reading it often costs little."""

import asyncio
import time

from recsys.ports import ReleaseReports

SECONDS_KEPT = 5.0


class KeptReport:
    def __init__(self, reports: ReleaseReports) -> None:
        self._reports = reports
        self._json = b""
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def json(self) -> bytes:
        """A `ReleasesReport` as JSON. Raises UpstreamError."""
        async with self._reading:
            if time.monotonic() - self._read_at >= SECONDS_KEPT:
                self._json = (await self._reports.releases()).model_dump_json().encode()
                self._read_at = time.monotonic()
            return self._json
