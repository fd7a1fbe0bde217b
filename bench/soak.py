"""`make soak`, run beside `make demo`: typical traffic for half an hour, with the memory of every process.

Fails if a process uses more memory in the last third of the time than in the first third after the warm-up.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import psutil

from bench.load import example_users
from bench.settings import SoakSettings
from local.settings import LocalSettings

PER_SECOND = 30.0
SAMPLE_SECONDS = 5.0
REPORT_SECONDS = 60.0
WARM_UP_SHARE = 0.25
"""Share of the time in which pools fill and caches warm up."""
TOLERATED_SHARE = 0.05
TOLERATED_BYTES = 8 * 2**20
MIB = 2**20


@dataclass
class Soak:
    users: list[str]
    items: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[int]] = field(default_factory=dict)
    """Bytes per process, every `SAMPLE_SECONDS`."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    async def visit(self, session: aiohttp.ClientSession) -> None:
        """Send one random request of a kind that a page sends."""
        user = self.chance.choice(self.users) if self.chance.random() < 0.8 else f"new-{self.chance.getrandbits(32)}"
        item = self.chance.choice(self.items)
        kind = self.chance.random()
        if kind < 0.6:
            body = {"user_id": user, "session_items": self.chance.choices(self.items, k=self.chance.randint(0, 5))}
            await self._send(session, "POST", "/v1/recommendations", body)
        elif kind < 0.8:
            await self._send(session, "POST", "/v1/events", [{"user_id": user, "item_id": item, "event": "view"}])
        elif kind < 0.85:
            await self._send(session, "GET", "/v1/items?query=the")
        elif kind < 0.9:
            await self._send(session, "GET", "/v1/popular?top_k=20")
        elif kind < 0.95:
            await self._send(session, "GET", f"/v1/items/{item}")
        else:
            await self._send(session, "POST", "/v1/recommendations", {"user_id": "", "top_k": -1})  # a 422

    async def _send(self, session: aiohttp.ClientSession, method: str, path: str, body: object = None) -> None:
        async with session.request(method, path, json=body) as response:
            content = await response.json()
        self.statuses[response.status] += 1
        if response.status == 200 and "tier" in content:
            self.tiers[content["tier"]] += 1

    def sample(self, processes: dict[str, psutil.Process]) -> None:
        for name, process in processes.items():
            self.memory.setdefault(name, []).append(process.memory_info().rss)


def service_processes(settings: LocalSettings) -> dict[str, psutil.Process]:
    """Every process that listens on one of our ports, and its children, by display name."""
    ports = {
        settings.orchestrator_port: "orchestrator",
        settings.feature_service_port: "feature_service",
        settings.ranker_port: "ranker_service",
        settings.redis_port: "redis",
        settings.mlflow_port: "mlflow",
    }
    found: dict[str, psutil.Process] = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports and connection.pid:
            process = psutil.Process(connection.pid)
            for each in (process, *process.children(recursive=True)):
                found.setdefault(f"{ports[connection.laddr.port]} {each.pid}", each)
    return found


async def run(settings: LocalSettings, minutes: float) -> Soak:
    processes = service_processes(settings)
    seconds = minutes * 60
    async with aiohttp.ClientSession(settings.orchestrator_url) as session:
        async with session.get("/v1/popular?top_k=100") as response:
            items = [each["item_id"] for each in (await response.json())["recommendations"]]
        soak = Soak(example_users(), items)
        started = time.perf_counter()
        sampled = reported = sent = 0
        async with asyncio.TaskGroup() as group:
            while (elapsed := time.perf_counter() - started) < seconds:
                while sent < elapsed * PER_SECOND:
                    group.create_task(soak.visit(session))
                    sent += 1
                if elapsed >= sampled * SAMPLE_SECONDS:
                    soak.sample(processes)
                    sampled += 1
                if elapsed >= reported * REPORT_SECONDS:
                    shown = ", ".join(f"{name} {sizes[-1] / MIB:.0f}" for name, sizes in soak.memory.items())
                    print(f"{elapsed / 60:4.0f} of {minutes:g} min, {sent:,} requests, MiB: {shown}", flush=True)
                    reported += 1
                await asyncio.sleep(0.005)
    return soak


def growth(sizes: list[int]) -> tuple[float, float]:
    """Median bytes in the first and in the last third of the time after the warm-up."""
    steady = sizes[int(len(sizes) * WARM_UP_SHARE) :]
    third = max(1, len(steady) // 3)
    return float(np.median(steady[:third])), float(np.median(steady[-third:]))


def main() -> int:
    settings, minutes = LocalSettings(), SoakSettings().soak_minutes
    try:
        soak = asyncio.run(run(settings, minutes))
    except aiohttp.ClientConnectionError as error:
        print(
            f"soak: failed: {settings.orchestrator_url} cannot be reached ({error}); start `make demo` first",
            file=sys.stderr,
        )
        return 1
    print(f"statuses {dict(soak.statuses)}, tiers {dict(soak.tiers)}")
    growing = []
    for name, sizes in soak.memory.items():
        before, after = growth(sizes)
        print(f"  {name:<28} {before / MIB:8.1f} MiB -> {after / MIB:8.1f} MiB ({after / before - 1:+.1%})")
        if after > before * (1 + TOLERATED_SHARE) + TOLERATED_BYTES:
            growing.append(name)
    if growing:
        print(f"soak: failed: {', '.join(growing)} kept growing", file=sys.stderr)
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
