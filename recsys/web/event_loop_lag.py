"""How far this process is behind: the time that whatever is ready has to wait until the event loop comes to it.

A request waits there before any queue of ours sees it, and where answers need no upstream it is the only place.
"""

import asyncio
import time

BEAT_SECONDS = 0.01
SAME_TURN_SECONDS = 0.002
"""After a late beat the loop takes so long to begin with all that came in meanwhile; what comes later did not wait."""
BEHIND_SECONDS = 0.03
"""Two or three requests' work. A loop that is never less behind than this has more to do than it can."""
LATE_BEATS = 8
"""One pause, as for collecting garbage, is made up for; shedding starts when so many beats in a row were late (as CoDel
looks for queues that do not go away: Nichols and Jacobson, "Controlling Queue Delay", 2012)."""


class EventLoopLag:
    def __init__(self) -> None:
        self._last = 0.0
        self._late = 0.0
        self._late_beats = 0

    def start(self) -> None:
        """Begin to beat in the running loop, if it does not yet."""
        if not self._last:
            self._last = time.perf_counter()
            asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def seconds(self) -> float:
        """Seconds that what is worked on now has waited to be, at most."""
        return max(0.0, self._late + time.perf_counter() - self._last - BEAT_SECONDS)

    def overloaded(self) -> bool:
        return self._late_beats >= LATE_BEATS and self.seconds() > BEHIND_SECONDS

    def _beat(self) -> None:
        now = time.perf_counter()
        self._late = max(0.0, now - self._last - BEAT_SECONDS)
        self._last = now
        self._late_beats = self._late_beats + 1 if self._late > BEHIND_SECONDS else 0
        loop = asyncio.get_running_loop()
        if self._late:
            loop.call_later(SAME_TURN_SECONDS, self._forget)
        loop.call_later(BEAT_SECONDS, self._beat)

    def _forget(self) -> None:
        self._late = 0.0
