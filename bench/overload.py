"""`make overload`, beside a running `make demo`: what is left of the goodput at three times the capacity.

Goodput is answers within the deadline, per second. Requests start on their tick, whether or not those before have been
answered, as users do; so the load does not ease off when the service slows down.
"""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from bench.load import Ask, Measured, asks_recommendations, example_users, measure
from local.settings import LocalSettings

CLIENTS = 16
"""As many as are worked on at once by default: enough to find the capacity, too few to be refused."""
SECONDS = 10.0
PAUSE_SECONDS = 3.0
TIMES = (0.5, 1.0, 2.0, 3.0)
DEADLINE_MS = 200.0
GRACE_MS = 10.0
ROW = "{:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8}"


@dataclass
class Offered:
    """What became of an open loop's requests."""

    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    """Of those that were answered with recommendations."""
    statuses: Counter[int] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)

    @property
    def goodput(self) -> float:
        return sum(spent <= DEADLINE_MS + GRACE_MS for spent in self.milliseconds) / self.seconds

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else float("nan")


async def offer(url: str, users: list[str], per_second: float, seconds: float) -> Offered:
    offered = Offered(seconds)

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        started = time.perf_counter()
        async with session.post("/v1/recommendations", json={"user_id": users[number % len(users)]}) as answer:
            told = await answer.json()
        offered.statuses[answer.status] += 1
        if answer.status == 200:
            offered.milliseconds.append((time.perf_counter() - started) * 1000)
            offered.tiers[told["tier"]] += 1

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session, asyncio.TaskGroup() as group:
        started, number = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            while number < elapsed * per_second:
                group.create_task(ask(session, number))
                number += 1
            await asyncio.sleep(0.002)
    return offered


async def run(url: str, users: list[str]) -> float:
    """Prints the table; returns the goodput at the highest load as a part of that at capacity."""
    recommend: Ask = asks_recommendations(users)
    await measure(url, recommend, CLIENTS, SECONDS / 2)
    capacity = await measure(url, recommend, CLIENTS, SECONDS)
    print(f"capacity: {capacity.per_second:,.0f} recommendations/s to {CLIENTS} clients {_shares(capacity)}")
    print(ROW.format("offered", "goodput/s", "refused", "p50 ms", "p95 ms", "p99 ms", "max ms", "others"))
    goodput: dict[float, float] = {}
    for times in TIMES:
        await asyncio.sleep(PAUSE_SECONDS)
        offered = await offer(url, users, capacity.per_second * times, SECONDS)
        goodput[times] = offered.goodput
        shown = [f"{offered.percentile(percent):.1f}" for percent in (50, 95, 99, 100)]
        refused = offered.statuses[429]
        others = offered.statuses.total() - offered.statuses[200] - refused
        name = f"{times:g} x capacity ({capacity.per_second * times:,.0f}/s)"
        print(ROW.format(name, f"{offered.goodput:,.0f}", f"{refused:,}", *shown, others), flush=True)
        print(f"  tiers: {dict(offered.tiers)}")
    return goodput[TIMES[-1]] / goodput[1.0]


def _shares(measured: Measured) -> str:
    return f"(tiers: {dict(measured.tiers)}, p95 {measured.percentile(95):.1f} ms)"


def main() -> int:
    url = LocalSettings().orchestrator_url
    try:
        kept = asyncio.run(run(url, example_users()))
    except aiohttp.ClientConnectionError as error:
        print(f"overload: failed: nobody answers at {url} ({error}); run `make demo`", file=sys.stderr)
        return 1
    print(f"goodput at {TIMES[-1]:g} x capacity is {kept:.0%} of that at capacity")
    return 0


if __name__ == "__main__":
    sys.exit(main())
