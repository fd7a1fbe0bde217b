"""A circuit breaker (Nygard, "Release It!", 2007): who fails again and again is left alone for a while, so that nobody
waits for what will not come."""

import time
from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""So many failures open the breaker, if there is no success between them ..."""
FAILING_SECONDS = 0.25
"""... for at least so long: where a machine is held up for a moment, all calls that are under way fail at once."""
OPEN_SECONDS = 1.0
"""After so long one call is let through, to see."""


class State(StrEnum):
    CLOSED = "closed"
    """Every call is let through."""
    OPEN = "open"
    """None is."""
    HALF_OPEN = "half_open"
    """One is, and its outcome decides."""


class Breaker:
    def __init__(
        self, changed: Callable[[State], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`changed` is told every new state."""
        self._changed = changed
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._next_try = 0.0
        self.state = State.CLOSED

    def admits(self) -> bool:
        """Whether a call may be made now; whoever makes it tells how it ended by one of the methods below."""
        if self.state == State.CLOSED:
            return True
        if self._clock() < self._next_try:
            return False
        self._next_try = self._clock() + OPEN_SECONDS  # another may try then, should the outcome never be told
        self._become(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._become(State.CLOSED)

    def failed(self) -> None:
        now = self._clock()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        lasting = self._failures >= FAILURES and now - self._failing_since >= FAILING_SECONDS
        if self.state == State.HALF_OPEN or (self.state == State.CLOSED and lasting):
            self._next_try = now + OPEN_SECONDS
            self._become(State.OPEN)

    def abandoned(self) -> None:
        """The call was given up for a reason that says nothing of the other side; the next one may try."""
        if self.state == State.HALF_OPEN:
            self._next_try = self._clock()

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._changed(state)
