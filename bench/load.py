"""Closed loops of recommendations for the users of a running `make demo`."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import polars as pl

from training.datasets.manifest import INTERACTIONS_FILE
from training.settings import JobSettings

USERS = 500


@dataclass
class Measured:
    seconds: float
    milliseconds: list[float] = field(default_factory=list)
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


def recommendation_sender(users: list[str]) -> SendRequest:
    async def send(session: aiohttp.ClientSession, number: int, measured: Measured) -> int:
        async with session.post("/v1/recommendations", json={"user_id": users[number % len(users)]}) as response:
            body = await response.json()
        if response.status == 200:
            measured.tiers[body["tier"]] += 1
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


def example_users() -> list[str]:
    """A sample of the users in the interaction log."""
    interactions = pl.scan_parquet(JobSettings().processed_dir / INTERACTIONS_FILE)
    return interactions.select(pl.col("user_id").unique()).head(USERS).collect()["user_id"].to_list()
