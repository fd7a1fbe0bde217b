"""ASGI middleware: sets the deadline of every request, and admits only as many as can be answered in time.

A request that cannot start at once waits in a short queue. It is rejected at once if the queue is full, and later if it
has waited too long. A longer queue would only make late responses later.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.deadline import DEADLINE_HEADER, LONGEST_MS, Deadline
from recsys.errors import Overloaded
from recsys.observability import DEADLINE_MISSES, QUEUED, SHED, annotate_request_log
from recsys.web.api_paths import is_api_call
from recsys.web.error_response import error_response
from recsys.web.event_loop_lag import EventLoopLag

HEADER = DEADLINE_HEADER.encode()
MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Admission:
    max_concurrent: int
    """Requests processed at once."""
    max_queued: int
    """Requests waiting in the queue."""
    deadline_ms: float
    """Deadline of a request that does not send one."""
    may_wait: float
    """Fraction of its remaining time that a request may spend in the queue; processing has to fit into the rest."""
    answers_late: bool = False
    """Whether a request is processed even if its deadline passed while it waited."""
    exempt: Callable[[str], bool] = lambda _: False
    """Whether requests to a path bypass the queue and have no deadline."""


class AdmissionMiddleware:
    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission
        self._slots = asyncio.Semaphore(admission.max_concurrent)
        self._queued = 0
        self._lag = EventLoopLag()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_api_call(scope) or self._admission.exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        self._lag.start()
        arrived = time.perf_counter() - self._lag.seconds()
        deadline = Deadline(self._milliseconds(scope) / 1000, arrived)
        annotate_request_log(deadline_ms=round(deadline.seconds * 1000, 3))
        try:
            await self._acquire_slot(deadline)
        except Overloaded as error:
            SHED.inc()
            annotate_request_log(shed=str(error), queue_depth=self._queued)
            await error_response(error)(scope, receive, send)
            return
        try:
            with deadline.activate():
                await self._app(scope, receive, send)
        finally:
            self._slots.release()
            if deadline.remaining() < 0:
                DEADLINE_MISSES.inc()
                annotate_request_log(deadline_missed=True)

    async def _acquire_slot(self, deadline: Deadline) -> None:
        """Raises Overloaded if no slot becomes free soon enough."""
        if self._lag.overloaded():
            raise Overloaded(f"the event loop is {self._lag.seconds() * 1000:.0f} ms behind")
        if self._slots.locked():
            await self._queue(deadline)
        else:
            await self._slots.acquire()
        if deadline.remaining() <= 0 and not self._admission.answers_late:
            self._slots.release()
            raise Overloaded("the deadline passed before the request could start")

    async def _queue(self, deadline: Deadline) -> None:
        if self._queued >= self._admission.max_queued:
            raise Overloaded(f"the queue is full: {self._queued} requests are waiting")
        since = time.perf_counter()
        self._queued += 1
        QUEUED.inc()
        try:
            async with asyncio.timeout(deadline.remaining() * self._admission.may_wait):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded("the request waited too long in the queue") from None
        finally:
            self._queued -= 1
            QUEUED.dec()
            queued_ms = round((time.perf_counter() - since) * 1000, 3)
            annotate_request_log(queued_ms=queued_ms, queue_depth=self._queued)

    def _milliseconds(self, scope: Scope) -> float:
        """The caller's deadline, or the default. The public API rejects an invalid one later."""
        for name, value in scope["headers"]:
            if name == HEADER and value.isdigit():
                return min(int(value[:MAX_DIGITS]), LONGEST_MS)
        return self._admission.deadline_ms
