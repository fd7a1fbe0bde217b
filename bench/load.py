"""`make bench`, run beside `make demo`: closed loops of clients against the public API on this machine.

The cost of a request is given as a multiple of a floor, which is the same server answering /healthz. A figure in
milliseconds depends more on the machine and its load than on Tandem.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import polars as pl

from local.settings import LocalSettings
from training.datasets.manifest import INTERACTIONS_FILE
from training.settings import JobSettings

SECONDS = 5.0
WARM_UP_SECONDS = 2.0
CLIENTS = (1, 8, 16)
"""The last is the orchestrator's default concurrency limit; `make overload` goes beyond it."""
USERS = 500
ROW = "{:<18} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>7}"


@dataclass
class Measured:
    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    tiers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[200]

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else float("nan")


SendRequest = Callable[[aiohttp.ClientSession, int, Measured], Awaitable[int]]
"""Sends request number n, records the details of its response, and returns the status."""


async def get_health(session: aiohttp.ClientSession, _: int, __: Measured) -> int:
    async with session.get("/healthz") as response:
        await response.read()
    return response.status


async def get_popular(session: aiohttp.ClientSession, _: int, __: Measured) -> int:
    async with session.get("/v1/popular?top_k=10") as response:
        await response.read()
    return response.status


def recommendation_sender(users: list[str]) -> SendRequest:
    async def send(session: aiohttp.ClientSession, number: int, measured: Measured) -> int:
        async with session.post("/v1/recommendations", json={"user_id": users[number % len(users)]}) as response:
            body = await response.json()
        if response.status == 200:
            measured.tiers[body["tier"]] += 1
            for stage, spent in body["timings_ms"].items():
                measured.stages.setdefault(stage, []).append(spent)
        return response.status

    return send


async def measure(url: str, send: SendRequest, clients: int, seconds: float) -> Measured:
    measured = Measured(seconds)
    give_up = time.perf_counter() + seconds
    numbers = iter(range(10**9))

    async def client(session: aiohttp.ClientSession) -> None:
        while (started := time.perf_counter()) < give_up:
            measured.statuses[await send(session, next(numbers), measured)] += 1
            measured.milliseconds.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=clients)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return measured


async def run(url: str, users: list[str]) -> None:
    recommend = recommendation_sender(users)
    await measure(url, recommend, CLIENTS[-1], WARM_UP_SECONDS)
    print(ROW.format("", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "x floor", "failed"))
    for clients in CLIENTS:
        floor = await measure(url, get_health, clients, SECONDS)
        _print_row("healthz (floor)", clients, floor, floor)
        for name, send in (("popular", get_popular), ("recommendations", recommend)):
            _print_row(name, clients, last := await measure(url, send, clients, SECONDS), floor)
        print(f"  tiers: {dict(last.tiers)}; median ms per stage: {_medians(last)}")


def _print_row(name: str, clients: int, measured: Measured, floor: Measured) -> None:
    shown = [f"{measured.percentile(percent):.2f}" for percent in (50, 95, 99)]
    multiple = f"{floor.per_second / measured.per_second:.1f}"
    print(ROW.format(name, clients, f"{measured.per_second:,.0f}", *shown, multiple, measured.failed), flush=True)


def _medians(measured: Measured) -> str:
    return ", ".join(f"{stage} {np.median(spent):.2f}" for stage, spent in measured.stages.items())


def example_users() -> list[str]:
    """A sample of the users in the interaction log."""
    interactions = pl.scan_parquet(JobSettings().processed_dir / INTERACTIONS_FILE)
    return interactions.select(pl.col("user_id").unique()).head(USERS).collect()["user_id"].to_list()


def main() -> int:
    url = LocalSettings().orchestrator_url
    try:
        asyncio.run(run(url, example_users()))
    except aiohttp.ClientConnectionError as error:
        print(f"bench: failed: {url} cannot be reached ({error}); start `make demo` first", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
