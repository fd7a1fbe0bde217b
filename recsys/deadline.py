"""One deadline per request: how much time is left, and how long each stage took."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Deadline:
    seconds: float
    """How long the whole request may take."""
    started: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self.seconds - self.elapsed())
