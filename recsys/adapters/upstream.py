"""What guards every call to another service or store: the time it may take, and the breaker of that upstream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Counter, Gauge

from recsys.breaker import Breaker, State
from recsys.deadline import current_deadline
from recsys.errors import TandemError, UpstreamError, UpstreamOverloaded, UpstreamSuspended, UpstreamTimeout

MAX_SECONDS = 2.0
"""The most that any call may take; a request's own deadline is shorter."""
PATIENCE_SECONDS = 0.05
"""Who was given less than this and did not answer in time is not held to be failing."""

BREAKER = Gauge("tandem_breaker_state", "1 for the state that an upstream's breaker is in.", ["upstream", "state"])
OPENED = Counter("tandem_breaker_opened_total", "How often an upstream began to be left alone.", ["upstream"])

log = structlog.get_logger()


class Upstream:
    def __init__(self, name: str) -> None:
        self.name = name
        self._breaker = Breaker(self._told)
        self._told(State.CLOSED)

    @property
    def state(self) -> State:
        return self._breaker.state

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """A block that makes one call, and raises our own errors.

        Ends it at the current deadline with `UpstreamTimeout`. Raises `UpstreamSuspended` at once while the upstream is
        left alone.
        """
        if not self._breaker.admits():
            structlog.contextvars.bind_contextvars(**{f"breaker_{self.name.lower()}": self.state})
            raise UpstreamSuspended(f"{self.name} failed again and again, and is left alone for a moment")
        deadline = current_deadline()
        allowed = min(deadline.remaining(), MAX_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, allowed)):
                yield
        except TimeoutError as error:
            self._was_late(allowed)
            raise UpstreamTimeout(f"{self.name} did not answer in time") from error
        except UpstreamTimeout:
            self._was_late(allowed)
            raise
        except UpstreamOverloaded:
            self._breaker.abandoned()
            raise
        except UpstreamError:
            self._breaker.failed()
            raise
        except TandemError:
            self._breaker.succeeded()  # it answered, if only that it will not
            raise
        except BaseException:
            if deadline.remaining() <= 0:  # cancelled by whoever keeps the deadline
                self._was_late(allowed)
            else:
                self._breaker.abandoned()
            raise
        self._breaker.succeeded()

    def _was_late(self, allowed: float) -> None:
        if allowed < PATIENCE_SECONDS:
            self._breaker.abandoned()
        else:
            self._breaker.failed()

    def _told(self, state: State) -> None:
        for each in State:
            BREAKER.labels(self.name, each).set(each == state)
        if state == State.OPEN:
            OPENED.labels(self.name).inc()
            log.warning("breaker_opened", upstream=self.name)
