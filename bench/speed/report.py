"""The result of `make bench`: tables as Markdown, a plot, and all numbers as JSON."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.settings import BenchSettings
from bench.speed.measured import CLIENTS, MeasuredAtRate, Measurements
from bench.speed.rates import Rates
from bench.speed.targets import FLOOR, RAY, TANDEM, WITH_SERVER
from bench.tables import write_between_markers

MARKER = "bench"
RESULTS = Path("bench/results")
PLOT = Path("docs/images/cpu_per_request.png")


@dataclass(frozen=True, slots=True)
class Sized:
    """A stack with this many items and users."""

    size: tuple[int, int]
    measured: Measurements
    start_seconds: dict[str, float]
    rates: Rates


@dataclass(frozen=True, slots=True)
class Report:
    settings: BenchSettings
    compared: Measurements
    at_rates: list[MeasuredAtRate]
    by_user: Measurements
    """Tandem on Edge, for certain kinds of users."""
    by_candidates: Measurements
    by_rankers: Measurements
    by_size: list[Sized]

    def text(self) -> str:
        sections = [
            _speeds(self.compared),
            _cpu(self.compared),
            self._ratios(),
            self._open_loop(),
            _variants("by user", self.by_user),
            _variants("by number of candidates", self.by_candidates),
            _variants("by replicas of the ranker", self.by_rankers),
            self._sizes(),
            self._rates(),
        ]
        return "\n\n".join(sections)

    def write(self, page: Path | None) -> None:
        """Write the JSON; and, if there is a page, its tables and the plot."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.json"
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(self._as_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(file)
        if page is not None:
            write_between_markers(page, MARKER, self.text())
            _plot(self.compared)

    def _ratios(self) -> str:
        sentences = []
        others = [target for target in self.compared.targets if target not in (FLOOR, TANDEM, WITH_SERVER)]
        for other in others:
            for target in (TANDEM, WITH_SERVER):
                more = self.compared.ratio(target, other, CLIENTS[-1], lambda each: each.load.per_second)
                p50 = self.compared.ratio(target, other, CLIENTS[0], lambda each: each.load.p50)
                name = f"the {other}" if other == RAY else other
                sentences.append(
                    f"{target}: {more:.1f} times the requests/s of {name} at 16 clients, {p50:.2f} of its p50 at "
                    "1 client."
                )
        for target in (TANDEM, WITH_SERVER):
            spread = self.compared.median(target, CLIENTS[0], lambda each: each.load.p99 / each.load.p50)
            sentences.append(f"{target}: the p99 at 1 client is {spread:.1f} times the p50.")
        if RAY not in others:
            sentences.append("Ray Serve was not measured.")
        return "\n".join(sentences)

    def _open_loop(self) -> str:
        rows = [
            f"{each.target}, {each.share:.0%} | {each.load.rate:,.0f} | {each.load.p50:.1f} / {each.load.p95:.1f} / "
            f"{each.load.p99:.1f} / {each.load.p999:.1f} | {each.load.failed} | {each.load.late_p99:.1f} | "
            f"{each.load.own_cpu_ms:.2f}"
            for each in self.at_rates
        ]
        heads = [
            "open loop, share of the closed loop's requests/s",
            "requests/s",
            "p50 / p95 / p99 / p99.9 ms",
            "failed",
            "p99 of the generator's delay, ms",
            "its CPU per request, ms",
        ]
        return _table(heads, rows)

    def _sizes(self) -> str:
        rows = []
        for sized in self.by_size:
            items, users = sized.size
            p50 = sized.measured.median(TANDEM, CLIENTS[0], lambda each: each.load.p50)
            rows.append(
                f"{items:,} items, {users:,} users | {p50:.1f} | {sized.measured.per_second(TANDEM):,.0f} | "
                f"{sized.measured.cpu(TANDEM):.2f} | {sized.measured.memory_mib(TANDEM):,.0f}"
            )
        heads = [
            "Tandem on Edge, by size",
            "1 client: p50 ms",
            "16 clients: requests/s",
            "ms of CPU per request",
            "MiB",
        ]
        return _table(heads, rows)

    def _rates(self) -> str:
        rows = []
        for sized in self.by_size:
            items, users = sized.size
            started = " / ".join(f"{seconds:.1f}" for seconds in sized.start_seconds.values())
            rates = sized.rates
            rows.append(
                f"{items:,} items, {users:,} users | {started} | {rates.trained_interactions:,.0f} | "
                f"{rates.indexed_items:,.0f} | {rates.seeded_users:,.0f} | {rates.precomputed_users:,.0f}"
            )
        names = " / ".join(name.removesuffix("_service") for name in self.by_size[0].start_seconds)
        heads = [
            "start-up and jobs",
            f"ready after s: {names}",
            "interactions trained on/s",
            "items indexed/s",
            "users seeded/s",
            "lists precomputed/s",
        ]
        return _table(heads, rows)

    def _as_json(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json", exclude={"bench_page", "qdrant_url"}),
            "machine": {"cores": os.cpu_count(), "python": sys.version},
            **{name: each for name, each in asdict(self).items() if name != "settings"},
        }


def _speeds(compared: Measurements) -> str:
    rows = []
    for target in compared.targets:
        alone, many = compared.times(target, CLIENTS[0]), compared.times(target, CLIENTS[-1])
        failed = sum(each.load.failed for each in compared.all if each.target == target)
        rows.append(f"{target} | {alone} | {compared.per_second(target):,.0f} | {many} | {failed}")
    heads = [
        "",
        "1 client: p50 / p95 / p99 / p99.9 ms",
        "16 clients: requests/s",
        "p50 / p95 / p99 / p99.9 ms",
        "failed",
    ]
    return _table(heads, rows)


def _cpu(compared: Measurements) -> str:
    rows = []
    for target in compared.targets:
        listed = ", ".join(f"{name} {spent:.2f}" for name, spent in compared.cpu_by_group(target).items())
        rows.append(f"{target} | {listed} | {compared.cpu(target):.2f} | {compared.memory_mib(target):,.0f}")
    return _table(["ms of CPU per request, 16 clients", "by process", "in all", "MiB"], rows)


def _variants(name: str, measured: Measurements) -> str:
    rows = []
    for target in measured.targets:
        alone = measured.median(target, CLIENTS[0], lambda each: each.load.p50)
        rows.append(f"{target} | {alone:.1f} | {measured.per_second(target):,.0f} | {measured.cpu(target):.2f}")
    heads = [f"Tandem on Edge, {name}", "1 client: p50 ms", "16 clients: requests/s", "ms of CPU per request"]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    """`rows` without the outer lines. The first column and lists of processes are text, the others are numbers."""
    aligned = ["---" if at == 0 or head == "by process" else "---:" for at, head in enumerate(heads)]
    lines = [" | ".join(heads).strip(), " | ".join(aligned), *rows]
    return "\n".join(f"| {line} |" for line in lines)


def _plot(compared: Measurements) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.5), layout="constrained")
    axes = figure.subplots()
    targets = [target for target in compared.targets if target != FLOOR]
    _stacked(axes, targets, [compared.cpu_by_group(target) for target in targets])
    axes.set_xlabel("ms of CPU per request at 16 clients")
    figure.savefig(PLOT, dpi=120)


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
