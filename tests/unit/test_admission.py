"""Admission control: slots, queue, deadlines and event loop lag."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from recsys.deadline import DEADLINE_HEADER, current_deadline
from recsys.observability import ObservabilityMiddleware
from recsys.web.admission import Admission, AdmissionMiddleware
from recsys.web.body_limit import BodyLimitMiddleware
from recsys.web.direct_routes import DirectRoutesMiddleware
from recsys.web.event_loop_lag import BEHIND_SECONDS, LATE_BEATS, SAME_TURN_SECONDS
from recsys.web.security_headers import SecurityHeadersMiddleware
from recsys.web.service import create_api, middleware_stack
from recsys.web.unhandled_error import UnhandledErrorMiddleware

DEADLINE_MS = 10_000.0


class BlockedApi:
    """An API whose requests block until `release` is set."""

    def __init__(self, max_concurrent: int = 1, max_queued: int = 1, deadline_ms: float = DEADLINE_MS) -> None:
        admission = Admission(max_concurrent, max_queued, deadline_ms, may_wait=0.25)
        self.app: FastAPI = create_api("blocked", "", middleware_stack(admission))
        self.started: list[str] = []
        self.release = asyncio.Event()

        @self.app.post("/v1/work/{name}")
        async def work(name: str, request: Request) -> dict[str, Any]:
            self.started.append(name)
            await self.release.wait()
            return {"left": current_deadline().remaining(), "body": len(await request.body())}

        @self.app.get("/healthz")
        async def healthz() -> str:
            return "ok"

        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://blocked")

    def send(self, name: str, **headers: str) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.client.post(f"/v1/work/{name}", content=b"12345", headers=headers))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never became true")


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_second_request_waits_and_a_third_is_rejected_with_retry_after() -> None:
    api = BlockedApi()
    first, second = api.send("first"), api.send("second")
    await until(lambda: api.started == ["first"])
    await settle()
    rejected = await api.send("third")
    assert (rejected.status_code, rejected.json()["error"]) == (429, "overloaded")
    assert rejected.headers["retry-after"] == "1"
    assert rejected.headers["x-request-id"]
    api.release.set()
    assert [(await each).status_code for each in (first, second)] == [200, 200]
    assert api.started == ["first", "second"]


async def test_health_is_answered_under_any_load() -> None:
    api = BlockedApi(max_queued=0)
    first = api.send("first")
    await until(lambda: bool(api.started))
    assert (await api.client.get("/healthz")).status_code == 200
    api.release.set()
    await first


async def test_a_request_that_waits_too_long_is_rejected_before_its_deadline() -> None:
    api = BlockedApi()
    first = api.send("first")
    await until(lambda: bool(api.started))
    second = await api.send("second", **{DEADLINE_HEADER: "50"})
    assert (second.status_code, second.json()["error"]) == (429, "overloaded")
    api.release.set()
    await first
    assert api.started == ["first"]


async def test_a_request_past_its_deadline_is_not_started() -> None:
    api = BlockedApi()
    rejected = await api.send("late", **{DEADLINE_HEADER: "0"})
    assert (rejected.status_code, rejected.json()["error"]) == (429, "overloaded")
    assert api.started == []


async def test_the_deadline_is_the_callers_or_the_default() -> None:
    api = BlockedApi(max_concurrent=10)
    api.release.set()
    own = (await api.send("own")).json()["left"]
    callers = (await api.send("callers", **{DEADLINE_HEADER: "1500"})).json()["left"]
    odd = (await api.send("odd", **{DEADLINE_HEADER: "soon"})).json()["left"]
    assert 2.0 < own <= DEADLINE_MS / 1000
    assert 0 < callers <= 1.5
    assert 2.0 < odd <= DEADLINE_MS / 1000


async def test_calls_behind_a_proxy_prefix_have_a_deadline_too() -> None:
    api = BlockedApi()
    api.release.set()
    transport = httpx.ASGITransport(api.app, root_path="/shop")
    async with httpx.AsyncClient(transport=transport, base_url="http://blocked") as client:
        answer = await client.post("/shop/v1/work/proxied", content=b"12345")
    assert answer.status_code == 200
    assert answer.json()["left"] <= DEADLINE_MS / 1000


async def test_a_slot_is_free_again_after_a_cancelled_request() -> None:
    api = BlockedApi(max_queued=0)
    for _ in range(3):
        task = api.send("given up")
        await until(lambda: bool(api.started))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        api.started.clear()
    api.release.set()
    assert (await api.send("after")).status_code == 200


async def test_a_request_cancelled_while_waiting_leaves_the_queue() -> None:
    api = BlockedApi()
    first = api.send("first")
    await until(lambda: bool(api.started))
    for _ in range(3):
        waiting = api.send("waiting")
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    last = api.send("last")
    await settle()
    api.release.set()
    assert [(await each).status_code for each in (first, last)] == [200, 200]


# --- event loop lag ---------------------------------------------------------------------------------------------------


async def keep_busy(seconds: float, at_a_time: float) -> None:
    """Block the event loop for `at_a_time` seconds at a time."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(at_a_time)  # noqa: ASYNC251 - the lag that has to be detected
        await asyncio.sleep(0)


async def test_a_loop_that_stays_behind_rejects_requests_until_it_catches_up() -> None:
    api = BlockedApi(max_concurrent=10)
    api.release.set()
    assert (await api.send("before")).status_code == 200
    busy = asyncio.create_task(keep_busy(BEHIND_SECONDS * LATE_BEATS * 12, at_a_time=BEHIND_SECONDS * 3))
    statuses = []
    while not busy.done() and 429 not in statuses:
        statuses.append((await api.send("meanwhile")).status_code)
    assert (statuses[0], statuses[-1]) == (200, 429)
    await busy
    await asyncio.sleep(BEHIND_SECONDS * 2)
    assert (await api.send("after")).status_code == 200


async def test_a_single_pause_sheds_nothing_and_counts_against_the_deadline() -> None:
    api = BlockedApi(max_concurrent=10)
    api.release.set()
    await api.send("before")
    await asyncio.sleep(BEHIND_SECONDS)
    waiting = api.send("waiting")
    time.sleep(BEHIND_SECONDS * LATE_BEATS * 2)  # noqa: ASYNC251 - the lag that has to be detected
    answer = await waiting
    assert answer.status_code == 200
    assert answer.json()["left"] < DEADLINE_MS / 1000 - BEHIND_SECONDS * LATE_BEATS


async def test_a_pause_does_not_count_against_later_requests() -> None:
    api = BlockedApi(max_concurrent=10)
    api.release.set()
    await api.send("before")
    time.sleep(1.0)  # noqa: ASYNC251 - the lag that has to be detected
    await asyncio.sleep(SAME_TURN_SECONDS * 2)
    answer = await api.send("after")
    assert answer.json()["left"] > DEADLINE_MS / 1000 - 1.0


# --- middleware order -------------------------------------------------------------------------------------------------


def test_the_stack_lists_middleware_in_the_order_in_which_requests_pass_it() -> None:
    caller = [Middleware(BodyLimitMiddleware)]
    stack = middleware_stack(Admission(1, 1, DEADLINE_MS, may_wait=0.25), caller)
    assert [each.cls for each in create_api("ordered", "", stack).user_middleware] == [
        SecurityHeadersMiddleware,
        ObservabilityMiddleware,
        caller[0].cls,
        UnhandledErrorMiddleware,
        BodyLimitMiddleware,
        AdmissionMiddleware,
        DirectRoutesMiddleware,
    ]
