"""A body has to arrive whole within limits of bytes and time, and reading it is linear work."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from recsys.web import body_limit
from recsys.web.body_limit import MAX_BODY_BYTES, BodyLimitMiddleware

HOST = "127.0.0.1"


class Sender:
    """An ASGI client: sends the parts of a body, then stops, and records the response."""

    def __init__(self, *parts: bytes, stalls: bool = False, pause: float = 0.0, **headers: str) -> None:
        """`pause` is the time before each part, in seconds."""
        more = [True] * len(parts) if stalls else [True] * (len(parts) - 1) + [False]
        self.parts = [
            {"type": "http.request", "body": part, "more_body": has} for part, has in zip(parts, more, strict=True)
        ]
        self.pause = pause
        self.scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        self.received: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if self.pause:
            await asyncio.sleep(self.pause)
        if not self.parts:
            await asyncio.Event().wait()
        return self.parts.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        self.received.append(message)

    async def run(self) -> int | None:
        """The status of a rejected request; None if the body reached the application."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.bodies.append((await receive())["body"])

        await BodyLimitMiddleware(app)(self.scope, self.receive, self.send)
        return self.received[0]["status"] if self.received else None


async def test_a_body_in_parts_reaches_the_application_whole() -> None:
    sender = Sender(b"ab", b"", b"c")
    assert await sender.run() is None
    assert sender.bodies == [b"abc"]


@pytest.mark.parametrize("parts", [[b"x" * (MAX_BODY_BYTES + 1), b""], [b"x" * MAX_BODY_BYTES, b"x", b""]])
async def test_a_body_that_grows_too_large_is_rejected_before_the_rest_arrives(parts: list[bytes]) -> None:
    sender = Sender(*parts)
    assert await sender.run() == 413
    assert sender.bodies == []


async def test_a_body_that_is_declared_too_large_is_not_read() -> None:
    sender = Sender(b"x", **{"content-length": str(MAX_BODY_BYTES + 1)})
    assert await sender.run() == 413
    assert len(sender.parts) == 1


async def test_a_body_that_stops_arriving_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.01)
    sender = Sender(b"half of", stalls=True)
    assert await sender.run() == 408
    assert dict(sender.received[0]["headers"])[b"connection"] == b"close"


async def test_a_body_whose_parts_are_quick_but_too_many_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.05)
    sender = Sender(*[b"x"] * 100, pause=0.005)
    assert await sender.run() == 408
    assert sender.parts, "the rest was read"


class Measured(bytes):
    """Counts how often any part's length is read."""

    reads = 0

    def __len__(self) -> int:
        Measured.reads += 1
        return super().__len__()


async def test_the_work_is_proportional_to_the_number_of_parts() -> None:
    Measured.reads = 0
    parts = 2000
    sender = Sender(*[Measured(b"x") for _ in range(parts)])
    assert await sender.run() is None
    assert sender.bodies == [b"x" * parts]
    assert Measured.reads <= 2 * parts


async def test_a_client_that_leaves_before_its_body_is_complete_is_told_apart() -> None:
    sender = Sender(b"half of", stalls=True)
    sender.parts.append({"type": "http.disconnect"})
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())

    await BodyLimitMiddleware(app)(sender.scope, sender.receive, sender.send)
    assert seen == [{"type": "http.disconnect"}]


async def test_all_bodies_together_are_limited_until_their_requests_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "MAX_HELD_BYTES", 10)
    release = asyncio.Event()
    outcomes: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["name"] == "fails":
            raise ValueError("a bug")
        await release.wait()

    limited = BodyLimitMiddleware(app)

    async def post(name: str, *parts: bytes, stalls: bool = False) -> None:
        sender = Sender(*parts, stalls=stalls)
        sender.scope["name"] = name
        try:
            await limited(sender.scope, sender.receive, sender.send)
        except ValueError:
            outcomes[name] = "raised"
        else:
            outcomes[name] = str(sender.received[0]["status"]) if sender.received else "served"

    slow = asyncio.create_task(post("slow", b"1234", stalls=True))
    served = asyncio.create_task(post("served", b"12", b"34"))
    await asyncio.sleep(0)
    await post("too many", b"123")
    await post("too many in parts", b"1", b"23")
    await post("fails", b"12")
    await post("fails", b"12")
    release.set()
    await served
    await post("after", b"123", b"456")
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    await post("after the slow one", b"12345", b"67890")
    assert outcomes == {
        "served": "served",
        "too many": "429",
        "too many in parts": "429",
        "fails": "raised",
        "after": "served",
        "after the slow one": "served",
    }


async def first_line_of(reader: asyncio.StreamReader) -> bytes:
    """Returns when the server has closed the connection."""
    line = await reader.readline()
    with suppress(ConnectionResetError):  # the rest of the body arrived after the end
        await reader.read()
    return line


async def test_over_a_socket_a_trickling_client_is_answered_and_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(uvicorn.Config(BodyLimitMiddleware(app), HOST, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.001)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    answer = asyncio.create_task(first_line_of(reader))
    length, sent = 200, 0
    try:
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length)
        while sent < length and not answer.done():
            writer.write(b"x")
            sent += 1
            await asyncio.sleep(0.005)
        assert answer.done(), "the connection is still open"
        assert answer.result().startswith(b"HTTP/1.1 408 ")
        assert sent < length
    finally:
        writer.close()
        server.should_exit = True
        await serving
