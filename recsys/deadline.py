"""One deadline per request, and how much of it is gone."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Deadline:
    seconds: float
    """How long the whole request may take."""
    started: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started
