"""A circuit breaker (Nygard, "Release It!", 2007): stops calls to a failing upstream, so that requests do not wait."""

import time
from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""The breaker opens after this many failures without a success between them ..."""
FAILING_SECONDS = 0.25
"""... over at least this time. When a machine stalls for a moment, all calls in flight fail at once."""
OPEN_SECONDS = 1.0
"""An open breaker allows one trial call after this time."""


class State(StrEnum):
    CLOSED = "closed"
    """All calls are allowed."""
    OPEN = "open"
    """No calls are allowed."""
    HALF_OPEN = "half_open"
    """One trial call is in flight; its outcome closes or opens the breaker."""


class Breaker:
    def __init__(
        self, on_change: Callable[[State], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`on_change` is called with every new state."""
        self._on_change = on_change
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._next_try = 0.0
        self.state = State.CLOSED

    def admits(self) -> bool:
        """Whether a call is allowed now. The caller must report its outcome with one of the methods below."""
        if self.state == State.CLOSED:
            return True
        if self._clock() < self._next_try:
            return False
        self._next_try = self._clock() + OPEN_SECONDS  # allows another trial call if this one never reports its outcome
        self._set_state(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._set_state(State.CLOSED)

    def failed(self) -> None:
        now = self._clock()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        persistent = self._failures >= FAILURES and now - self._failing_since >= FAILING_SECONDS
        if self.state == State.HALF_OPEN or (self.state == State.CLOSED and persistent):
            self._next_try = now + OPEN_SECONDS
            self._set_state(State.OPEN)

    def abandoned(self) -> None:
        """The call ended without a result that says anything about the upstream; the next call may try."""
        if self.state == State.HALF_OPEN:
            self._next_try = self._clock()

    def _set_state(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change(state)
