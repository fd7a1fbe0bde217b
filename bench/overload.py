"""`make overload`, run beside `make demo`: the goodput at up to three times the capacity.

Goodput is the number of responses within the deadline, per second. Requests start on a fixed schedule, whether or not
earlier ones have finished, so the load does not decrease when the service slows down.
"""

import asyncio
import sys
import time

import aiohttp

from bench.load import Measured, SendRequest, example_users, measure, recommendation_sender
from local.settings import LocalSettings

CLIENTS = 16
"""The default concurrency limit: enough to find the capacity, too few to be rejected."""
SECONDS = 10.0
PAUSE_SECONDS = 3.0
TIMES = (0.5, 1.0, 2.0, 3.0)
DEADLINE_MS = 200.0
GRACE_MS = 10.0
ROW = "{:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8}"


async def offer(url: str, send: SendRequest, per_second: float, seconds: float) -> Measured:
    """The results of an open loop of requests; times are recorded for successful responses only."""
    offered = Measured(seconds)

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        started = time.perf_counter()
        status = await send(session, number, offered)
        offered.statuses[status] += 1
        if status == 200:
            offered.milliseconds.append((time.perf_counter() - started) * 1000)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session, asyncio.TaskGroup() as group:
        started, number = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            while number < elapsed * per_second:
                group.create_task(client(session, number))
                number += 1
            await asyncio.sleep(0.002)
    return offered


def goodput_of(offered: Measured) -> float:
    return sum(spent <= DEADLINE_MS + GRACE_MS for spent in offered.milliseconds) / offered.seconds


async def run(url: str, users: list[str]) -> float:
    """Print the table; return the goodput at the highest load relative to that at capacity."""
    recommend = recommendation_sender(users)
    await measure(url, recommend, CLIENTS, SECONDS / 2)
    capacity = await measure(url, recommend, CLIENTS, SECONDS)
    print(f"capacity: {capacity.per_second:,.0f} recommendations/s to {CLIENTS} clients {_shares(capacity)}")
    print(ROW.format("offered", "goodput/s", "rejected", "p50 ms", "p95 ms", "p99 ms", "max ms", "others"))
    goodput: dict[float, float] = {}
    for times in TIMES:
        await asyncio.sleep(PAUSE_SECONDS)
        offered = await offer(url, recommend, capacity.per_second * times, SECONDS)
        goodput[times] = goodput_of(offered)
        shown = [f"{offered.percentile(percent):.1f}" for percent in (50, 95, 99, 100)]
        rejected = offered.statuses[429]
        name = f"{times:g} x capacity ({capacity.per_second * times:,.0f}/s)"
        print(
            ROW.format(name, f"{goodput[times]:,.0f}", f"{rejected:,}", *shown, offered.failed - rejected), flush=True
        )
        print(f"  tiers: {dict(offered.tiers)}")
    return goodput[TIMES[-1]] / goodput[1.0]


def _shares(measured: Measured) -> str:
    return f"(tiers: {dict(measured.tiers)}, p95 {measured.percentile(95):.1f} ms)"


def main() -> int:
    url = LocalSettings().orchestrator_url
    try:
        relative = asyncio.run(run(url, example_users()))
    except aiohttp.ClientConnectionError as error:
        print(f"overload: failed: {url} cannot be reached ({error}); start `make demo` first", file=sys.stderr)
        return 1
    print(f"goodput at {TIMES[-1]:g} x capacity is {relative:.0%} of that at capacity")
    return 0


if __name__ == "__main__":
    sys.exit(main())
