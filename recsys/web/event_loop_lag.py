"""Measures the event loop's lag: how long a callback that is ready to run waits for the loop.

Requests wait there before they reach the admission queue. In a service that calls no upstream they wait nowhere else.
"""

import asyncio
import time

BEAT_SECONDS = 0.01
SAME_TURN_SECONDS = 0.002
"""Time after a late beat within which the loop starts everything that arrived during the delay."""
BEHIND_SECONDS = 0.03
"""A lag of two or three requests' work. A loop that always lags more than this is overloaded."""
LATE_BEATS = 8
"""Consecutive late beats that mean overload. A single pause, such as a garbage collection, is recovered from (CoDel
detects standing queues in the same way: Nichols and Jacobson, "Controlling Queue Delay", 2012)."""


class EventLoopLag:
    def __init__(self) -> None:
        self._last_beat = 0.0
        self._late = 0.0
        self._late_beats = 0

    def start(self) -> None:
        """Start measuring the running loop, unless already started."""
        if not self._last_beat:
            self._last_beat = time.perf_counter()
            asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def seconds(self) -> float:
        """An upper bound on how long the current callback waited for the loop."""
        return max(0.0, self._late + time.perf_counter() - self._last_beat - BEAT_SECONDS)

    def overloaded(self) -> bool:
        return self._late_beats >= LATE_BEATS and self.seconds() > BEHIND_SECONDS

    def _beat(self) -> None:
        now = time.perf_counter()
        self._late = max(0.0, now - self._last_beat - BEAT_SECONDS)
        self._last_beat = now
        self._late_beats = self._late_beats + 1 if self._late > BEHIND_SECONDS else 0
        loop = asyncio.get_running_loop()
        if self._late:
            loop.call_later(SAME_TURN_SECONDS, self._reset_late)
        loop.call_later(BEAT_SECONDS, self._beat)

    def _reset_late(self) -> None:
        self._late = 0.0
