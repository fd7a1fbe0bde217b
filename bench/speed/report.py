"""The result of `make bench`: tables as Markdown, a plot, and all numbers as JSON."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from bench.settings import BenchSettings
from bench.speed.wrk import Load
from bench.tables import write_between_markers

FLOOR, TANDEM, WITH_SERVER, RAY = "floor: /healthz", "Tandem on Edge", "Tandem, Qdrant server", "Ray Serve composition"
CLIENTS = (1, 16)
MARKER = "bench"
RESULTS = Path("bench/results")
PLOT = Path("docs/images/cpu_per_request.png")


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
class Report:
    settings: BenchSettings
    rounds: list[Measured]
    by_user: list[Measured]
    """Tandem on Edge, for certain kinds of users."""

    def text(self) -> str:
        return f"{self._speeds()}\n\n{self._cpu()}\n\n{self._ratios()}\n\n{self._users()}"

    def write(self, page: Path | None) -> None:
        """Write the JSON; and, if there is a page, its tables and the plot."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.json"
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(self._as_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(file)
        if page is not None:
            write_between_markers(page, MARKER, self.text())
            self._plot()

    def _speeds(self) -> str:
        rows = [
            "| | 1 client: p50 / p95 / p99 / p99.9 ms | 16 clients: requests/s | p50 / p95 / p99 / p99.9 ms | failed |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for target in self._targets():
            alone, many = self._times(target, CLIENTS[0]), self._times(target, CLIENTS[1])
            per_second = self._median(target, CLIENTS[1], lambda each: each.load.per_second)
            failed = sum(each.load.failed for each in self.rounds if each.target == target)
            rows.append(f"| {target} | {alone} | {per_second:,.0f} | {many} | {failed} |")
        return "\n".join(rows)

    def _cpu(self) -> str:
        rows = ["| ms of CPU per request, 16 clients | by process | in all | MiB |", "| --- | --- | ---: | ---: |"]
        for target in self._targets():
            parts = self._cpu_by_group(target)
            listed = ", ".join(f"{name} {spent:.2f}" for name, spent in parts.items())
            memory = self._median(target, CLIENTS[1], lambda each: sum(each.memory_mib.values()))
            rows.append(f"| {target} | {listed} | {sum(parts.values()):.2f} | {memory:,.0f} |")
        return "\n".join(rows)

    def _users(self) -> str:
        users = Report(self.settings, self.by_user, [])
        rows = ["| Tandem on Edge, by user | 1 client: p50 ms | 16 clients: requests/s | ms of CPU per request |"]
        rows.append("| --- | ---: | ---: | ---: |")
        for target in users._targets():
            alone = users._median(target, CLIENTS[0], lambda each: each.load.p50)
            per_second = users._median(target, CLIENTS[1], lambda each: each.load.per_second)
            rows.append(
                f"| {target} | {alone:.1f} | {per_second:,.0f} | {sum(users._cpu_by_group(target).values()):.2f} |"
            )
        return "\n".join(rows)

    def _ratios(self) -> str:
        if RAY not in self._targets():
            return "Ray Serve was not measured."
        sentences = []
        for target in (TANDEM, WITH_SERVER):
            more = self._ratio(target, CLIENTS[1], lambda each: each.load.per_second)
            p50 = self._ratio(target, CLIENTS[0], lambda each: each.load.p50)
            spread = self._median(target, CLIENTS[0], lambda each: each.load.p99 / each.load.p50)
            sentences.append(
                f"{target}: {more:.1f} times the requests/s of the Ray Serve composition at 16 clients, {p50:.2f} of "
                f"its p50 at 1 client; its own p99 is {spread:.1f} times its p50 there."
            )
        return "\n".join(sentences)

    def _targets(self) -> list[str]:
        return list(dict.fromkeys(each.target for each in self.rounds))

    def _of(self, target: str, clients: int) -> list[Measured]:
        return [each for each in self.rounds if (each.target, each.clients) == (target, clients)]

    def _median(self, target: str, clients: int, value: Callable[[Measured], float]) -> float:
        return float(np.median([value(each) for each in self._of(target, clients)]))

    def _ratio(self, target: str, clients: int, value: Callable[[Measured], float]) -> float:
        """To Ray Serve: the median of the rounds' ratios, because what else the machine does changes between rounds."""
        pairs = zip(self._of(target, clients), self._of(RAY, clients), strict=True)
        return float(np.median([value(ours) / value(theirs) for ours, theirs in pairs]))

    def _times(self, target: str, clients: int) -> str:
        values = (attrgetter(f"load.{name}") for name in ("p50", "p95", "p99", "p999"))
        return " / ".join(f"{self._median(target, clients, value):.1f}" for value in values)

    def _cpu_by_group(self, target: str) -> dict[str, float]:
        groups = self._of(target, CLIENTS[1])[0].cpu_ms
        return {name: self._median(target, CLIENTS[1], partial(_cpu_of, name)) for name in groups}

    def _as_json(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json", exclude={"bench_page", "qdrant_url"}),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "rounds": [asdict(each) for each in self.rounds],
            "by_user": [asdict(each) for each in self.by_user],
        }

    def _plot(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2.5), layout="constrained")
        axes = figure.subplots()
        targets = [target for target in self._targets() if target != FLOOR]
        _stacked(axes, targets, [self._cpu_by_group(target) for target in targets])
        axes.set_xlabel("ms of CPU per request at 16 clients")
        figure.savefig(PLOT, dpi=120)


def _cpu_of(group: str, measured: Measured) -> float:
    return measured.cpu_ms[group]


def _stacked(axes: Any, targets: Sequence[str], parts: Sequence[dict[str, float]]) -> None:
    for row, by_group in enumerate(parts):
        left = 0.0
        for name, spent in by_group.items():
            bar = axes.barh(row, spent, left=left, color=f"C{list(parts[0]).index(name) if name in parts[0] else 7}")
            if spent > 0.04 * max(sum(each.values()) for each in parts):
                axes.bar_label(bar, [name.removesuffix("_service")], label_type="center", fontsize=7)
            left += spent
        axes.text(left, row, f" {left:.2f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(targets)), targets, fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
