"""An open loop: requests start at a constant rate, whether or not earlier ones were answered.

A closed loop sends fewer requests while the server is slow, so it sees fewer of the slow ones. Here a latency counts
from the moment at which its request should have started (Tene, "How NOT to Measure Latency", 2015), so it includes the
delay of this process. `Paced` says how long that was, and how much CPU this process took.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import aiohttp
import numpy as np

JSON = {"content-type": "application/json"}
TIMEOUT_SECONDS = 10
MAX_CONNECTIONS = 256
"""Requests in flight. Further ones wait, which counts as latency."""


@dataclass(frozen=True, slots=True)
class Paced:
    """What an open loop measured; times are in milliseconds."""

    rate: float
    """Requests per second."""
    failed: int
    """Responses with another status than 2xx, and lost connections."""
    p50: float
    p95: float
    p99: float
    p999: float
    late_p99: float
    """How late this process started the request that it started later than 99 of 100 others."""
    own_cpu_ms: float
    """CPU of this process per request."""


@dataclass(slots=True)
class _Seen:
    milliseconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: int = 0


def run_paced(url: str, requests: Path, rate: float, seconds: float) -> Paced:
    """`requests` is a file of `write_requests`."""
    seen, cpu = _Seen(), time.process_time()
    number = max(1, round(rate * seconds))
    asyncio.run(_send_all(url, list(islice(cycle(_read(requests)), number)), rate, seen))
    own_cpu_ms = (time.process_time() - cpu) / number * 1000
    p50, p95, p99, p999 = (float(value) for value in np.percentile(seen.milliseconds, (50, 95, 99, 99.9)))
    return Paced(rate, seen.failed, p50, p95, p99, p999, float(np.percentile(seen.late, 99)), own_cpu_ms)


def _read(file: Path) -> Sequence[tuple[str, bytes]]:
    parts = (line.partition("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return [(path, body.encode()) for path, _, body in parts]


async def _send_all(url: str, requests: Sequence[tuple[str, bytes]], rate: float, seen: _Seen) -> None:
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        started = time.perf_counter()
        for number, (path, body) in enumerate(requests):
            planned = started + number / rate
            if (wait := planned - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(_send(session, path, body, planned, seen))


async def _send(session: aiohttp.ClientSession, path: str, body: bytes, planned: float, seen: _Seen) -> None:
    seen.late.append((time.perf_counter() - planned) * 1000)
    sending = session.post(path, data=body, headers=JSON) if body else session.get(path)
    try:
        async with sending as response:
            await response.read()
            seen.failed += not response.ok
    except (aiohttp.ClientError, TimeoutError):
        seen.failed += 1
    seen.milliseconds.append((time.perf_counter() - planned) * 1000)
