"""When a release that could not be loaded is tried again: after a pause that doubles with every failure."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

MAX_PAUSE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Failure:
    problem: str
    """For everybody to read: without addresses and paths."""
    detail: str
    """For the log."""
    pause_seconds: float
    retry_at: float


class Retries:
    """The last failure of each version, as texts: an exception would keep the memory of a half-loaded release."""

    def __init__(self, first_pause_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._clock = clock
        self._failures: dict[int, Failure] = {}

    def waiting(self, version: int) -> Failure | None:
        """The failure after which the version is not tried again yet."""
        failure = self._failures.get(version)
        return failure if failure is not None and self._clock() < failure.retry_at else None

    def failed(self, version: int, problem: str, detail: str) -> Failure:
        before = self._failures.get(version)
        pause = self._first_pause_seconds if before is None else min(2 * before.pause_seconds, MAX_PAUSE_SECONDS)
        failure = Failure(problem, detail, pause, self._clock() + pause)
        self._failures[version] = failure
        return failure

    def keep_only(self, versions: Collection[int]) -> None:
        """Forget the failures of all other versions."""
        self._failures = {version: failure for version, failure in self._failures.items() if version in versions}
