"""The deadline of the current request.

Within a process it travels in a context variable. Between services the header `X-Deadline-Ms` carries the remaining
time, so clocks need not be synchronised.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

DEADLINE_HEADER = "x-deadline-ms"
SHORTEST_MS = 20
LONGEST_MS = 2000
"""The bounds of what a caller of the public API may ask for."""
RESERVE_SECONDS = 0.003
"""Time that a caller keeps for itself, to process the response."""


@dataclass(frozen=True, slots=True)
class Deadline:
    seconds: float
    """The time that the whole request may take."""
    started: float = field(default_factory=time.perf_counter)
    enforced: bool = False
    """Whether work in its block is cancelled when it passes, so that nothing inside needs a timeout of its own."""

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def remaining(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self.seconds - self.elapsed()

    def fraction(self, fraction: float) -> "Deadline":
        """An earlier deadline of the same request, which the caller enforces."""
        return Deadline(self.seconds * fraction, self.started, enforced=True)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make this the current deadline within the block."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline:
    """The deadline of the current request; outside a request, one that never passes."""
    return _current.get() or Deadline(math.inf)
