"""Measures the processes of a stack, Redis and the folders on disk, at even intervals."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import psutil
from redis import Redis

from bench.settings import WARM_UP_SHARE
from recsys.errors import JobError

MIB = 2**20
MOST_SAMPLES = 400
SHORTEST_INTERVAL = 0.5
"""Seconds."""
KEYS_PER_SCAN = 5_000
BLOCK_BYTES = 512
"""The unit of `st_blocks`. Qdrant reserves files that are larger than what they use."""
REPORTED_ONLY = ("MLflow", "Redis append-only file")
"""MLflow keeps every version, as it should. Redis rewrites its file when it has doubled."""


class Kind(NamedTuple):
    """What is measured, and how much of it may be gained after the warm-up.

    Memory is that which no file backs. The kernel drops pages of mapped files when it needs them for something else.
    """

    name: str
    unit: float
    tolerated: float


class Quantity(Enum):
    MEMORY = Kind("MiB of memory", MIB, 10 * MIB)
    FILES = Kind("open files", 1, 8)
    THREADS = Kind("threads", 1, 4)
    DISK = Kind("MiB on disk", MIB, 8 * MIB)


@dataclass
class Samples:
    seconds: list[float] = field(default_factory=list)
    """When each sample was taken, since the start of the traffic."""
    values: dict[tuple[Quantity, str], list[float]] = field(default_factory=dict)
    """One value per sample, by quantity and by what was measured."""
    keys: list[int] = field(default_factory=list)
    """In Redis."""
    warm_after: float | None = None
    """When the warm-up ended; None if it has not ended yet."""

    def add(self, quantity: Quantity, subject: str, value: float) -> None:
        self.values.setdefault((quantity, subject), []).append(value)

    def after_warm_up(self, values: list[float]) -> list[float]:
        first = next((place for place, when in enumerate(self.seconds) if when >= (self.warm_after or 0)), 0)
        return values[first:]


class Sampler:
    def __init__(
        self,
        processes: Mapping[str, psutil.Process],
        redis: "Redis",
        folders: Mapping[str, Path],
        is_warm: Callable[[], bool],
    ) -> None:
        """`is_warm` says whether whatever grows as intended has reached its full size."""
        self.samples = Samples()
        self._processes = processes
        self._redis = redis
        self._folders = folders
        self._is_warm = is_warm

    async def run(self, seconds: float) -> None:
        """Sample until it is cancelled. The warm-up takes half of `seconds`, or longer if `is_warm` says so."""
        started, interval = time.monotonic(), max(SHORTEST_INTERVAL, seconds / MOST_SAMPLES)
        while True:
            elapsed = time.monotonic() - started
            if self.samples.warm_after is None and elapsed >= WARM_UP_SHARE * seconds and self._is_warm():
                self.samples.warm_after = elapsed
            await asyncio.to_thread(self._sample, elapsed)
            await asyncio.sleep(interval - (time.monotonic() - started) % interval)

    def _sample(self, elapsed: float) -> None:
        """Raises JobError if a process has ended, even if another one replaced it."""
        samples = self.samples
        for name, process in self._processes.items():
            try:
                with process.oneshot():
                    memory = process.memory_info()
                    samples.add(Quantity.MEMORY, name, memory.rss - memory.shared)
                    samples.add(Quantity.FILES, name, process.num_fds())
                    samples.add(Quantity.THREADS, name, process.num_threads())
            except psutil.NoSuchProcess as error:
                raise JobError(f"the process {name} (pid {error.pid}) ended during the soak") from error
        samples.add(Quantity.MEMORY, "redis, used by data", self._redis.info("memory")["used_memory"])
        samples.keys.append(self._redis.dbsize())
        for name, folder in self._folders.items():
            samples.add(Quantity.DISK, name, _bytes_in(folder))
        samples.seconds.append(elapsed)


def keys_by_kind(redis: "Redis") -> Counter[str]:
    """How many keys there are by the last part of their names."""
    return Counter(key.rsplit(":", 1)[-1] for key in redis.scan_iter(count=KEYS_PER_SCAN))


def _bytes_in(folder: Path) -> int:
    """The space on disk of all files. Those that are deleted meanwhile count as empty."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total
