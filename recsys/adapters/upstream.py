"""Guards every call to another service or store with a timeout and a circuit breaker per upstream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Counter, Gauge

from recsys.breaker import Breaker, State
from recsys.deadline import current_deadline
from recsys.errors import TandemError, UpstreamError, UpstreamOverloaded, UpstreamSuspended, UpstreamTimeout
from recsys.observability import annotate_request_log

FEATURE_SERVICE = "feature_service"
RANKER = "ranker"
QDRANT = "Qdrant"
REDIS = "Redis"
"""The names of upstreams in metrics, logs and messages."""

MAX_SECONDS = 2.0
"""The longest that any call may take; a request's own deadline is shorter."""
PATIENCE_SECONDS = 0.05
"""A timeout shorter than this does not count as a failure of the upstream."""

BREAKER = Gauge(
    "tandem_breaker_state", "How many of an upstream's replicas have a breaker in this state.", ["upstream", "state"]
)
OPENED = Counter("tandem_breaker_opened_total", "How often an upstream's breaker opened.", ["upstream"])

log = structlog.get_logger()


class Upstream:
    """One upstream, or one of its replicas. Replicas have the same name, so the number of metrics is bounded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._breaker = Breaker(self._report)
        self._reported = self._breaker.state
        for each in State:
            BREAKER.labels(name, each).inc(each == self._reported)

    @property
    def state(self) -> State:
        return self._breaker.state

    def forget(self) -> None:
        """Take a replica that is gone out of the metrics."""
        BREAKER.labels(self.name, self._reported).dec()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Guard a block that makes one call and raises `TandemError`.

        Raises `UpstreamTimeout` at the current deadline, and `UpstreamSuspended` at once while the breaker is open.
        """
        if not self._breaker.admits():
            annotate_request_log(**{f"breaker_{self.name.lower()}": self.state})
            raise UpstreamSuspended(f"{self.name} failed repeatedly; calls are suspended for a moment")
        deadline = current_deadline()
        allowed = min(deadline.remaining(), MAX_SECONDS)
        try:
            if deadline.enforced and allowed < MAX_SECONDS:
                yield
            else:
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
            self._breaker.succeeded()  # the upstream is healthy: it rejected the request
            raise
        except BaseException:
            if deadline.remaining() <= 0:  # cancelled because the deadline passed
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

    def _report(self, state: State) -> None:
        BREAKER.labels(self.name, self._reported).dec()
        BREAKER.labels(self.name, state).inc()
        before, self._reported = self._reported, state
        if state == State.OPEN:
            OPENED.labels(self.name).inc()
            if before == State.CLOSED:  # not after every trial call, which a dead upstream gets once per second
                log.warning("breaker_opened", upstream=self.name)
