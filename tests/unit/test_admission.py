"""Who is let in, who waits, and who is refused; and the body that is taken in before."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from recsys.deadline import DEADLINE_HEADER, current_deadline
from recsys.web import body_limit
from recsys.web.admission import Admission
from recsys.web.body_limit import MAX_BODY_BYTES, BodyLimitMiddleware
from recsys.web.event_loop_lag import BEHIND_SECONDS, LATE_BEATS, SAME_TURN_SECONDS
from recsys.web.service import create_api

DEADLINE_MS = 10_000.0


class Held:
    """An API whose answers are held back until they are let go."""

    def __init__(self, max_concurrent: int = 1, max_queued: int = 1, deadline_ms: float = DEADLINE_MS) -> None:
        self.app: FastAPI = create_api("held", "", Admission(max_concurrent, max_queued, deadline_ms, may_wait=0.25))
        self.begun: list[str] = []
        self.let_go = asyncio.Event()

        @self.app.post("/v1/work/{name}")
        async def work(name: str, request: Request) -> dict[str, Any]:
            self.begun.append(name)
            await self.let_go.wait()
            return {"left": current_deadline().remaining(), "body": len(await request.body())}

        @self.app.get("/healthz")
        async def healthz() -> str:
            return "ok"

        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://held")

    def send(self, name: str, **headers: str) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.client.post(f"/v1/work/{name}", content=b"12345", headers=headers))


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(5000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


async def settle() -> None:
    """Everything that can go on without anything new happening has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_one_more_waits_and_the_next_is_refused_with_a_word_on_when_to_come_back():
    held = Held()
    first, second = held.send("first"), held.send("second")
    await until(lambda: held.begun == ["first"])
    await settle()
    refused = await held.send("third")
    assert (refused.status_code, refused.json()["error"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-request-id"]
    held.let_go.set()
    assert [(await each).status_code for each in (first, second)] == [200, 200]
    assert held.begun == ["first", "second"]


async def test_health_is_told_however_much_there_is_to_do():
    held = Held(max_queued=0)
    first = held.send("first")
    await until(lambda: bool(held.begun))
    assert (await held.client.get("/healthz")).status_code == 200
    held.let_go.set()
    await first


async def test_who_waits_too_long_is_refused_while_there_is_time_left():
    held = Held()
    first = held.send("first")
    await until(lambda: bool(held.begun))
    second = await held.send("second", **{DEADLINE_HEADER: "50"})
    assert (second.status_code, second.json()["error"]) == (429, "overloaded")
    held.let_go.set()
    await first
    assert held.begun == ["first"]


async def test_work_whose_time_is_over_is_not_begun():
    held = Held()
    refused = await held.send("late", **{DEADLINE_HEADER: "0"})
    assert (refused.status_code, refused.json()["error"]) == (429, "overloaded")
    assert held.begun == []


async def test_the_deadline_is_the_callers_or_else_the_services_own():
    held = Held(max_concurrent=10)
    held.let_go.set()
    own = (await held.send("own")).json()["left"]
    callers = (await held.send("callers", **{DEADLINE_HEADER: "1500"})).json()["left"]
    odd = (await held.send("odd", **{DEADLINE_HEADER: "soon"})).json()["left"]
    assert 2.0 < own <= DEADLINE_MS / 1000
    assert 0 < callers <= 1.5
    assert 2.0 < odd <= DEADLINE_MS / 1000


async def test_calls_behind_the_path_of_a_proxy_have_a_deadline_too():
    held = Held()
    held.let_go.set()
    transport = httpx.ASGITransport(held.app, root_path="/shop")
    async with httpx.AsyncClient(transport=transport, base_url="http://held") as client:
        answer = await client.post("/shop/v1/work/proxied", content=b"12345")
    assert answer.status_code == 200
    assert answer.json()["left"] <= DEADLINE_MS / 1000


async def test_a_place_is_free_again_after_a_failure():
    held = Held(max_queued=0)
    for _ in range(3):
        task = held.send("given up")
        await until(lambda: bool(held.begun))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        held.begun.clear()
    held.let_go.set()
    assert (await held.send("after")).status_code == 200


async def test_who_gives_up_while_waiting_leaves_the_queue():
    held = Held()
    first = held.send("first")
    await until(lambda: bool(held.begun))
    for _ in range(3):
        waiting = held.send("waiting")
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    last = held.send("last")
    await settle()
    held.let_go.set()
    assert [(await each).status_code for each in (first, last)] == [200, 200]


# --- the body ---------------------------------------------------------------------------------------------------------


class Sender:
    """The other side of an ASGI connection: sends parts of a body, then stops, and keeps what it is told."""

    def __init__(self, *parts: bytes, stalls: bool = False, **headers: str) -> None:
        more = [True] * len(parts) if stalls else [True] * (len(parts) - 1) + [False]
        self.parts = [
            {"type": "http.request", "body": part, "more_body": has} for part, has in zip(parts, more, strict=True)
        ]
        self.scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        self.told: list[dict[str, Any]] = []
        self.taken: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if not self.parts:
            await asyncio.Event().wait()
        return self.parts.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    async def meet(self) -> int | None:
        """The status of what was refused; None where the body came through."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.taken.append((await receive())["body"])

        await BodyLimitMiddleware(app)(self.scope, self.receive, self.send)
        return self.told[0]["status"] if self.told else None


async def test_a_body_in_parts_is_handed_on_in_one():
    sender = Sender(b"ab", b"", b"c")
    assert await sender.meet() is None
    assert sender.taken == [b"abc"]


@pytest.mark.parametrize("parts", [[b"x" * (MAX_BODY_BYTES + 1), b""], [b"x" * MAX_BODY_BYTES, b"x", b""]])
async def test_a_body_that_grows_too_large_is_refused_before_the_rest_of_it_came(parts):
    sender = Sender(*parts)
    assert await sender.meet() == 413
    assert sender.taken == []


async def test_a_body_that_is_announced_as_too_large_is_not_even_read():
    sender = Sender(b"x", **{"content-length": str(MAX_BODY_BYTES + 1)})
    assert await sender.meet() == 413
    assert len(sender.parts) == 1


async def test_a_body_that_stops_coming_is_refused(monkeypatch):
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.01)
    sender = Sender(b"half of", stalls=True)
    assert await sender.meet() == 408


# --- a process that is behind -----------------------------------------------------------------------------------------


async def keep_busy(seconds: float, at_a_time: float) -> None:
    """Leaves the event loop to others only every now and then."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(at_a_time)  # noqa: ASYNC251 - this is what is to be noticed
        await asyncio.sleep(0)


async def test_a_loop_that_stays_behind_refuses_work_until_it_has_caught_up():
    held = Held(max_concurrent=10)
    held.let_go.set()
    assert (await held.send("before")).status_code == 200
    busy = asyncio.create_task(keep_busy(BEHIND_SECONDS * LATE_BEATS * 12, at_a_time=BEHIND_SECONDS * 3))
    statuses = []
    while not busy.done() and 429 not in statuses:
        statuses.append((await held.send("meanwhile")).status_code)
    assert (statuses[0], statuses[-1]) == (200, 429)
    await busy
    await asyncio.sleep(BEHIND_SECONDS * 2)
    assert (await held.send("after")).status_code == 200


async def test_one_pause_is_made_up_for_and_counts_as_spent():
    held = Held(max_concurrent=10)
    held.let_go.set()
    await held.send("before")
    await asyncio.sleep(BEHIND_SECONDS)
    waiting = held.send("waiting")
    time.sleep(BEHIND_SECONDS * LATE_BEATS * 2)  # noqa: ASYNC251 - this is what is to be noticed
    answer = await waiting
    assert answer.status_code == 200
    assert answer.json()["left"] < DEADLINE_MS / 1000 - BEHIND_SECONDS * LATE_BEATS


async def test_who_comes_after_a_pause_has_not_waited_for_it():
    held = Held(max_concurrent=10)
    held.let_go.set()
    await held.send("before")
    time.sleep(1.0)  # noqa: ASYNC251 - this is what is to be noticed
    await asyncio.sleep(SAME_TURN_SECONDS * 2)
    answer = await held.send("after")
    assert answer.json()["left"] > DEADLINE_MS / 1000 - 1.0
