"""The states of the orchestrator's dependencies, for `/readyz` and for alerts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from prometheus_client import Gauge

from recsys.errors import ReleaseError, UpstreamError
from recsys.web.readiness import OK

NOT_CHECKED = "not checked yet"
STALE_SECONDS = 60.0
"""If no check finishes for this long, the states are unknown. Even a large catalogue is opened in less time."""

DEPENDENCY_OK = Gauge("tandem_dependency_ok", "1 while /readyz has no problem with the dependency.", ["dependency"])

log = structlog.get_logger()


class Dependencies:
    def __init__(self, *names: str, check_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`check_seconds` is the time between two checks."""
        self._stale_after = STALE_SECONDS + check_seconds
        self._clock = clock
        self._states = dict.fromkeys(names, NOT_CHECKED)
        self._finished = clock()
        self.all_checked = False
        """Whether all of them were checked at least once."""
        for name in names:
            DEPENDENCY_OK.labels(name).set_function(partial(self._is_ok, name))

    @property
    def states(self) -> dict[str, str]:
        """By name: `ok`, or the problem."""
        age = self._clock() - self._finished
        if age > self._stale_after:
            return dict.fromkeys(self._states, f"not checked for {age:.0f} s")
        return self._states

    async def check(self, name: str, refresh: Callable[[], Awaitable[str | None]]) -> bool:
        """Run `refresh`, and report the problem that it returns or raises. Returns whether there was none.

        An unexpected exception is a bug. It is reported too, because the next check may succeed. So is a cancellation
        that no code requested, which would end the caller's loop.
        """
        try:
            self.report(name, await refresh() or OK)
        except (UpstreamError, ReleaseError) as error:
            self.report(name, str(error), error)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            state = f"the check failed: {type(error).__name__}"
            if state != self._states[name]:
                log.exception("check_failed", name=name)
            self.report(name, state, error)
        return self._states[name] == OK

    def report(self, name: str, state: str, error: BaseException | None = None) -> None:
        if state not in (OK, self._states[name]):
            cause = repr(error.__cause__) if error else None
            log.warning("dependency_missing", name=name, problem=state, cause=cause)
        self._states[name] = state

    def finish(self) -> None:
        """All of them were checked now."""
        self._finished = self._clock()
        self.all_checked = True

    def _is_ok(self, name: str) -> bool:
        return self.states[name] == OK
