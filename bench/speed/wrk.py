"""Closed loops of clients with wrk, whose own work is a few microseconds per request."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import JobError

SCRIPT = Path(__file__).with_name("requests.lua")
TIMEOUT = "10s"


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk measured; percentiles are in milliseconds."""

    requests: int
    seconds: float
    failed: int
    """Responses with another status than 2xx or 3xx, and lost connections."""
    p50: float
    p95: float
    p99: float
    p999: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def write_requests(file: Path, requests: Sequence[tuple[str, object]]) -> Path:
    """Each request is a path and a body that is sent as JSON; None sends a GET."""
    lines = (f"{path}\t{'' if body is None else json.dumps(body)}" for path, body in requests)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def run_wrk(url: str, requests: Path, clients: int, seconds: float) -> Load:
    """Raises JobError if wrk is missing or fails."""
    command = shutil.which("wrk")
    if command is None:
        raise JobError("wrk is not installed; on Debian: apt-get install wrk")
    ended = subprocess.run(
        [command, "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", TIMEOUT, "-s", str(SCRIPT), url],
        env={**os.environ, "REQUESTS": str(requests)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ended.stdout.strip().splitlines()
    if ended.returncode or not lines or not lines[-1].startswith("{"):
        raise JobError(f"wrk failed: {(ended.stderr or ended.stdout).strip()}")
    return Load(**json.loads(lines[-1]))
