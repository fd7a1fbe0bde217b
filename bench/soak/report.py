"""The result of a soak: a table as Markdown, for the terminal and the page, and all numbers as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.settings import SoakSettings
from bench.soak.flatness import LEAST_MEASUREMENTS, Trend, Verdict, trend
from bench.soak.samples import MIB, REPORTED_ONLY, Quantity, Samples
from bench.soak.traffic import Counts

MARKER = "soak"
RESULTS = Path("bench/results/soak.json")
TOLERATED_UNEXPECTED = 1e-3
"""Share of requests that may fail in a way in which no service should fail."""
TOLERATED_REFUSED = 0.05
"""Share of requests that may be refused because a service is busy."""
COLUMNS = {
    "MiB of": "---",
    "first third": "---:",
    "last third": "---:",
    "growth (95% interval)": "---:",
    "peak": "---:",
    "open files": "---:",
    "threads": "---:",
    "result": "---",
}
MEASURED_IN_MIB = (Quantity.MEMORY, Quantity.DISK)


@dataclass(frozen=True, slots=True)
class Measured:
    quantity: Quantity
    subject: str
    trend: Trend

    @property
    def verdict(self) -> Verdict | None:
        """None if the quantity is reported only."""
        return None if self.subject in REPORTED_ONLY else self.trend.verdict(self.quantity.value.tolerated)

    @property
    def growth(self) -> str:
        unit, found = self.quantity.value.unit, self.trend
        return f"{found.growth / unit:+.1f} ({found.low / unit:+.1f} to {found.high / unit:+.1f})"

    @property
    def change(self) -> str:
        unit = self.quantity.value.unit
        return f"{self.trend.first / unit:.0f} to {self.trend.last / unit:.0f}"


@dataclass
class Outcome:
    """What a soak measured, also if it was interrupted."""

    settings: SoakSettings
    samples: Samples
    counts: Counts
    promotion_seconds: list[float]
    keys_by_kind: dict[str, int]
    seconds: float

    def measured(self) -> list[Measured]:
        """Everything after the warm-up, or all of it if the warm-up did not end."""
        trends = []
        for (quantity, subject), values in self.samples.values.items():
            steady = self.samples.after_warm_up(values)
            if len(steady) >= LEAST_MEASUREMENTS:
                trends.append(Measured(quantity, subject, trend(steady)))
        return sorted(trends, key=lambda each: list(Quantity).index(each.quantity))

    def problems(self) -> list[str]:
        """Sentences; none if the soak succeeded."""
        found = []
        for each in self.measured():
            kind, growth = each.quantity.value, each.trend
            amount = (
                f"{growth.growth / kind.unit:+.1f} ({growth.low / kind.unit:+.1f} to {growth.high / kind.unit:+.1f})"
            )
            name = f"{each.subject}: {kind.name}"
            if each.verdict == Verdict.GROWS:
                found.append(f"{name} kept growing after the warm-up, by {amount}")
            elif each.verdict == Verdict.UNCLEAR:
                found.append(f"{name} may have grown after the warm-up, by {amount}; a longer soak can tell")
        counts, requests = self.counts, max(1, self.counts.requests)
        if counts.unexpected.total() > TOLERATED_UNEXPECTED * requests:
            found.append(f"unexpected responses: {_listed(counts.unexpected)}")
        if counts.refused.total() > TOLERATED_REFUSED * requests:
            found.append(f"{counts.refused.total():,} of {requests:,} requests were refused: {_listed(counts.refused)}")
        return found

    def table(self) -> str:
        """A row for each process and folder."""
        measured = {(each.quantity, each.subject): each for each in self.measured()}
        rows = [list(COLUMNS), list(COLUMNS.values())]
        for (quantity, subject), size in measured.items():
            if quantity in MEASURED_IN_MIB:
                found = size.trend
                counted = [measured.get((each, subject)) for each in (Quantity.FILES, Quantity.THREADS)]
                verdicts = [each.verdict for each in (size, *counted) if each is not None]
                sizes = [f"{each / MIB:.1f}" for each in (found.first, found.last)]
                counts = ["" if each is None else each.change for each in counted]
                peak, result = f"{found.peak / MIB:.1f}", _worst(verdicts) or "reported only"
                name = subject if quantity == Quantity.MEMORY else f"{subject}, on disk"
                rows.append([name, *sizes, size.growth, peak, *counts, result])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def summary(self) -> str:
        counts, settings = self.counts, self.settings
        percentiles = np.percentile(counts.milliseconds, [50, 95, 99]) if counts.milliseconds else [float("nan")] * 3
        p50, p95, p99 = (f"{each:.0f}" for each in percentiles)
        reasons = {
            f"{reason} ({counts.lowered_in_promotions[reason]:,} during promotions)": count
            for reason, count in counts.lowered.items()
        }
        promoted = len(self.promotion_seconds)
        median = f"{np.median(self.promotion_seconds):.0f} s" if promoted else "no time"
        sentences = [
            f"{self.seconds / 60:.0f} minutes, {promoted} promotions (their jobs took {median} each), "
            f"{counts.recorded:,} events of {settings.soak_active_users:,} active and {counts.arrived:,} idle users, "
            f"{counts.requests:,} requests.",
            f"Statuses: {_listed(counts.statuses)}. Refused, and sent again if they are events: "
            f"{_listed(counts.refused)}. Unexpected: {_listed(counts.unexpected)}.",
            f"Tiers: {_listed(counts.tiers)}. Lower than the stack can serve: {_listed(reasons)}.",
            f"Recommendations took {p50} ms (p50), {p95} ms (p95) and {p99} ms (p99).",
            f"Keys in Redis at the end: {sum(self.keys_by_kind.values()):,} ({_listed(self.keys_by_kind)}).",
        ]
        return "\n".join(sentences)

    def as_json(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json", exclude={"soak_table"}),
            "seconds": round(self.seconds, 1),
            "warm_after_seconds": self.samples.warm_after and round(self.samples.warm_after, 1),
            "promotion_seconds": [round(each, 1) for each in self.promotion_seconds],
            "statuses": self.counts.statuses,
            "refused": self.counts.refused,
            "unexpected": self.counts.unexpected,
            "tiers": self.counts.tiers,
            "lowered": self.counts.lowered,
            "lowered_in_promotions": self.counts.lowered_in_promotions,
            "events_recorded": self.counts.recorded,
            "duplicates": self.counts.duplicates,
            "keys_by_kind": self.keys_by_kind,
            "measured": [
                {
                    "subject": each.subject,
                    "quantity": each.quantity.name.lower(),
                    "verdict": each.verdict,
                    **asdict(each.trend),
                }
                for each in self.measured()
            ],
            "sample_seconds": [round(each, 1) for each in self.samples.seconds],
            "samples": {
                f"{quantity.name.lower()}, {subject}": values
                for (quantity, subject), values in self.samples.values.items()
            },
        }

    def write_json(self, path: Path = RESULTS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def _worst(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """None if nothing was decided."""
    return next((each for each in (Verdict.GROWS, Verdict.UNCLEAR, Verdict.FLAT) if each in verdicts), None)


def _listed(counts: dict[Any, int]) -> str:
    """Largest first."""
    pairs = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {count:,}" for name, count in pairs) or "none"
