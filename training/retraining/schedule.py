"""When a run is due, and how long to wait after a failure."""

from dataclasses import dataclass

from training.retraining.state import State

FIRST_PAUSE_SECONDS = 60.0
"""After a failure; it doubles with each further one, up to the time between two runs."""


@dataclass(frozen=True)
class Schedule:
    every_seconds: float
    after_events: int | None
    """None if only time counts."""

    def due(self, state: State, events: int, now: float) -> bool:
        """Whether a run is to begin, or one that was interrupted is to continue. events: those that wait."""
        enough = self.after_events is not None and events >= self.after_events
        return state.run is not None or enough or now >= state.waiting_since + self.every_seconds

    def pause(self, failures: int) -> float:
        """Seconds until the next attempt, after this many failures in a row."""
        return min(self.every_seconds, FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1))
