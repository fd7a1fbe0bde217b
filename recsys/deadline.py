"""One deadline per request. It travels in a context variable to whatever is called in the request's name, and over the
wire as the header `X-Deadline-Ms`: what is left of it, so that no two clocks have to agree."""

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
"""What a caller keeps of the time it hands on, to make use of the answer."""


@dataclass(frozen=True, slots=True)
class Deadline:
    seconds: float
    """How long the whole request may take."""
    started: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def remaining(self) -> float:
        """Seconds until it; negative when it has passed."""
        return self.seconds - self.elapsed()

    def fraction(self, fraction: float) -> "Deadline":
        """An earlier deadline of the same request."""
        return Deadline(self.seconds * fraction, self.started)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Lets everything that is called in this block know of it."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


NEVER = Deadline(math.inf, 0.0)
_current: ContextVar[Deadline] = ContextVar("deadline", default=NEVER)


def current_deadline() -> Deadline:
    """The deadline of the work under way; `NEVER` where nobody waits."""
    return _current.get()
