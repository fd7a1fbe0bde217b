"""The table of measurements: printed, and written between two markers of the page that FAULT_TABLE names, if any."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLUMNS = {
    "part": "---",
    "fault": "---",
    "requests": "---:",
    "valid": "---:",
    "right tier": "---:",
    "within deadline + 10 ms": "---:",
    "p50 ms": "---:",
    "p99 ms": "---:",
    "max ms": "---:",
    "CPU": "---:",
    "served meanwhile": "---",
    "full service again": "---:",
}


@dataclass(frozen=True)
class Row:
    part: str
    fault: str
    requests: int
    valid: float
    right: float
    in_time: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu: float
    """CPU use of the whole machine, other processes included."""
    tiers: Counter[str]
    recovery_seconds: float

    def __str__(self) -> str:
        tiers = ", ".join(f"{tier} {count / self.tiers.total():.0%}" for tier, count in self.tiers.most_common())
        shares = [f"{share:.2%}" for share in (self.valid, self.right, self.in_time)]
        times = [f"{each:.0f}" for each in (self.p50_ms, self.p99_ms, self.max_ms)]
        recovery = f"{self.recovery_seconds:.1f} s"
        cells = [self.part, self.fault, str(self.requests), *shares, *times, f"{self.cpu:.0%}", tiers, recovery]
        return _line(cells)


def show(rows: list[Row]) -> None:
    text = "\n".join([_line(list(COLUMNS)), _line(list(COLUMNS.values())), *map(str, rows), "", _summary(rows)])
    print(f"\n{text}")
    page = os.environ.get("FAULT_TABLE")
    if page:
        before, _, rest = Path(page).read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        Path(page).write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _summary(rows: list[Row]) -> str:
    requests = sum(row.requests for row in rows)
    valid = sum(row.valid * row.requests for row in rows) / requests
    in_time = sum(row.in_time * row.requests for row in rows) / requests
    return f"Of {requests:,} requests {valid:.3%} got a valid answer, and {in_time:.3%} within the deadline + 10 ms."


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
