"""`make bench`, beside a running `make demo`: closed loops of clients against the public API of this machine.

What a request costs is told as a multiple of the floor, which is the same server answering /healthz: a figure in
milliseconds says more about the machine and what else it does than about Tandem.
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
"""The last as many as the orchestrator works on at once by default; `make overload` looks beyond."""
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


Ask = Callable[[aiohttp.ClientSession, int, Measured], Awaitable[int]]
"""Sends the request of that number, notes what is particular about its answer, and returns the status."""


async def ask_health(session: aiohttp.ClientSession, _: int, __: Measured) -> int:
    async with session.get("/healthz") as answer:
        await answer.read()
    return answer.status


async def ask_popular(session: aiohttp.ClientSession, _: int, __: Measured) -> int:
    async with session.get("/v1/popular?top_k=10") as answer:
        await answer.read()
    return answer.status


def asks_recommendations(users: list[str]) -> Ask:
    async def ask(session: aiohttp.ClientSession, number: int, measured: Measured) -> int:
        async with session.post("/v1/recommendations", json={"user_id": users[number % len(users)]}) as answer:
            told = await answer.json()
        if answer.status == 200:
            measured.tiers[told["tier"]] += 1
            for stage, spent in told["timings_ms"].items():
                measured.stages.setdefault(stage, []).append(spent)
        return answer.status

    return ask


async def measure(url: str, ask: Ask, clients: int, seconds: float) -> Measured:
    measured = Measured(seconds)
    give_up = time.perf_counter() + seconds
    numbers = iter(range(10**9))

    async def client(session: aiohttp.ClientSession) -> None:
        while (started := time.perf_counter()) < give_up:
            measured.statuses[await ask(session, next(numbers), measured)] += 1
            measured.milliseconds.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=clients)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return measured


async def run(url: str, users: list[str]) -> None:
    recommend = asks_recommendations(users)
    await measure(url, recommend, CLIENTS[-1], WARM_UP_SECONDS)
    print(ROW.format("", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "x floor", "failed"))
    for clients in CLIENTS:
        floor = await measure(url, ask_health, clients, SECONDS)
        _print_row("healthz (floor)", clients, floor, floor)
        for name, ask in (("popular", ask_popular), ("recommendations", recommend)):
            _print_row(name, clients, last := await measure(url, ask, clients, SECONDS), floor)
        print(f"  tiers: {dict(last.tiers)}; median ms per stage: {_medians(last)}")


def _print_row(name: str, clients: int, measured: Measured, floor: Measured) -> None:
    shown = [f"{measured.percentile(percent):.2f}" for percent in (50, 95, 99)]
    multiple = f"{floor.per_second / measured.per_second:.1f}"
    print(ROW.format(name, clients, f"{measured.per_second:,.0f}", *shown, multiple, measured.failed), flush=True)


def _medians(measured: Measured) -> str:
    return ", ".join(f"{stage} {np.median(spent):.2f}" for stage, spent in measured.stages.items())


def example_users() -> list[str]:
    """Some of those that are in the interaction log."""
    interactions = pl.scan_parquet(JobSettings().processed_dir / INTERACTIONS_FILE)
    return interactions.select(pl.col("user_id").unique()).head(USERS).collect()["user_id"].to_list()


def main() -> int:
    url = LocalSettings().orchestrator_url
    try:
        asyncio.run(run(url, example_users()))
    except aiohttp.ClientConnectionError as error:
        print(f"bench: failed: nobody answers at {url} ({error}); run `make demo` beside", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
