"""Loads targets in turns, and summarises what was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np

from bench.settings import BenchSettings
from bench.speed.open_loop import Paced, run_paced
from bench.speed.processes import Groups, cpu_seconds, memory_mib
from bench.speed.wrk import Load, run_wrk

CLIENTS = (1, 16)
WARM_UP_SECONDS = 3.0
LOADS = (0.5, 0.8)
"""Rates of the open loop, as fractions of the requests/s of a closed loop with CLIENTS[-1]."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded."""

    name: str
    url: str
    requests: Path
    groups: Groups


@dataclass(frozen=True, slots=True)
class Measured:
    """One loading of one target."""

    target: str
    clients: int
    load: Load
    cpu_ms: dict[str, float]
    """Per request, by group of processes."""
    memory_mib: dict[str, float]

    def __str__(self) -> str:
        load = self.load
        return (
            f"{self.target}, {self.clients} clients: {load.per_second:,.0f} requests/s, p50 {load.p50:.2f} ms, "
            f"p99 {load.p99:.2f} ms, {sum(self.cpu_ms.values()):.2f} ms of CPU, {load.failed} failed"
        )


@dataclass(frozen=True, slots=True)
class MeasuredAtRate:
    """One loading of one target by an open loop."""

    target: str
    share: float
    """Of its requests/s in a closed loop."""
    load: Paced


@dataclass(frozen=True, slots=True)
class Measurements:
    """Several loadings of several targets. What is reported of them are medians."""

    all: list[Measured]

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(each.target for each in self.all))

    def of(self, target: str, clients: int) -> list[Measured]:
        return [each for each in self.all if (each.target, each.clients) == (target, clients)]

    def median(self, target: str, clients: int, value: Callable[[Measured], float]) -> float:
        return float(np.median([value(each) for each in self.of(target, clients)]))

    def ratio(self, target: str, other: str, clients: int, value: Callable[[Measured], float]) -> float:
        """The median of the rounds' ratios, because what else the machine does changes between rounds."""
        pairs = zip(self.of(target, clients), self.of(other, clients), strict=True)
        return float(np.median([value(ours) / value(theirs) for ours, theirs in pairs]))

    def per_second(self, target: str) -> float:
        return self.median(target, CLIENTS[-1], lambda each: each.load.per_second)

    def memory_mib(self, target: str) -> float:
        return self.median(target, CLIENTS[-1], lambda each: sum(each.memory_mib.values()))

    def times(self, target: str, clients: int) -> str:
        values = (attrgetter(f"load.{name}") for name in ("p50", "p95", "p99", "p999"))
        return " / ".join(f"{self.median(target, clients, value):.1f}" for value in values)

    def cpu_by_group(self, target: str) -> dict[str, float]:
        groups = self.of(target, CLIENTS[-1])[0].cpu_ms
        return {name: self.median(target, CLIENTS[-1], partial(_cpu_of, name)) for name in groups}

    def cpu(self, target: str) -> float:
        return sum(self.cpu_by_group(target).values())


def measure(settings: BenchSettings, targets: Sequence[Target], rounds: int = 1) -> Measurements:
    """Load every target in turn, with every number of clients."""
    for target in targets:
        run_wrk(target.url, target.requests, CLIENTS[-1], WARM_UP_SECONDS)
    measured: list[Measured] = []
    for number in range(rounds):
        for clients in CLIENTS:
            for target in targets:
                before = cpu_seconds(target.groups)
                load = run_wrk(target.url, target.requests, clients, settings.bench_seconds)
                spent = cpu_seconds(target.groups)
                cpu_ms = {name: (spent[name] - before[name]) / load.requests * 1000 for name in spent}
                measured.append(Measured(target.name, clients, load, cpu_ms, memory_mib(target.groups)))
                print(f"round {number + 1} of {rounds}: {measured[-1]}", flush=True)
    return Measurements(measured)


def measure_at_rates(settings: BenchSettings, targets: Sequence[Target], closed: Measurements) -> list[MeasuredAtRate]:
    """Load every target with an open loop, below what it managed in the closed one."""
    measured = []
    for share in LOADS:
        for target in targets:
            rate = share * closed.per_second(target.name)
            paced = run_paced(target.url, target.requests, rate, settings.bench_seconds)
            measured.append(MeasuredAtRate(target.name, share, paced))
            print(f"open loop, {target.name}: {rate:,.0f} requests/s, p99 {paced.p99:.2f} ms", flush=True)
    return measured


def _cpu_of(group: str, measured: Measured) -> float:
    return measured.cpu_ms[group]
