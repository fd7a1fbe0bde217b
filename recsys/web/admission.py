"""ASGI middleware: gives every request its deadline, and lets no more of them in than can be answered in time.

What does not get in at once waits in a short queue; what the queue has no room for, or what has waited too long, is
refused while refusing is still cheap. A queue that is longer than this only turns late answers into later ones.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from recsys.deadline import DEADLINE_HEADER, LONGEST_MS, Deadline
from recsys.errors import Overloaded
from recsys.observability import DEADLINE_MISSES, QUEUED, SHED, App, Receive, Scope, Send
from recsys.web.api_paths import is_api_call
from recsys.web.error_response import error_response
from recsys.web.event_loop_lag import EventLoopLag

HEADER = DEADLINE_HEADER.encode()
MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Admission:
    max_concurrent: int
    """Requests that are worked on at once."""
    max_queued: int
    """Requests that wait for their turn."""
    deadline_ms: float
    """Of a request that does not bring one."""
    may_wait: float
    """The part of its time that a request may wait for its turn; what it does then has to fit into the rest."""
    answers_late: bool = False
    """Whether a request whose time is over when its turn comes gets an answer all the same."""
    exempt: Callable[[str], bool] = lambda _: False
    """Whether requests to a path neither wait for a turn nor have a deadline."""


class AdmissionMiddleware:
    def __init__(self, app: App, admission: Admission) -> None:
        self._app = app
        self._admission = admission
        self._turns = asyncio.Semaphore(admission.max_concurrent)
        self._queued = 0
        self._lag = EventLoopLag()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_api_call(scope) or self._admission.exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        self._lag.start()
        arrived = time.perf_counter() - self._lag.seconds()
        deadline = Deadline(self._milliseconds(scope) / 1000, arrived)
        structlog.contextvars.bind_contextvars(deadline_ms=round(deadline.seconds * 1000, 3))
        try:
            await self._wait_for_turn(deadline)
        except Overloaded as error:
            SHED.inc()
            structlog.contextvars.bind_contextvars(shed=str(error), queue_depth=self._queued)
            await error_response(error)(scope, receive, send)
            return
        try:
            with deadline.activate():
                await self._app(scope, receive, send)
        finally:
            self._turns.release()
            if deadline.remaining() < 0:
                DEADLINE_MISSES.inc()
                structlog.contextvars.bind_contextvars(deadline_missed=True)

    async def _wait_for_turn(self, deadline: Deadline) -> None:
        """Raises Overloaded where there is no turn soon enough."""
        if self._lag.overloaded():
            raise Overloaded(f"everything here waits for {self._lag.seconds() * 1000:.0f} ms already")
        if self._turns.locked():
            await self._queue(deadline)
        else:
            await self._turns.acquire()
        if deadline.remaining() <= 0 and not self._admission.answers_late:
            self._turns.release()
            raise Overloaded("the time for this request was over before its turn came")

    async def _queue(self, deadline: Deadline) -> None:
        if self._queued >= self._admission.max_queued:
            raise Overloaded(f"{self._queued} requests wait already")
        since = time.perf_counter()
        self._queued += 1
        QUEUED.inc()
        try:
            async with asyncio.timeout(deadline.remaining() * self._admission.may_wait):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded("others were first for too long") from None
        finally:
            self._queued -= 1
            QUEUED.dec()
            queued_ms = round((time.perf_counter() - since) * 1000, 3)
            structlog.contextvars.bind_contextvars(queued_ms=queued_ms, queue_depth=self._queued)

    def _milliseconds(self, scope: Scope) -> float:
        """What the caller allows; where that is no number the public API refuses it later."""
        for name, value in scope["headers"]:
            if name == HEADER and value.isdigit():
                return min(int(value[:MAX_DIGITS]), LONGEST_MS)
        return self._admission.deadline_ms
