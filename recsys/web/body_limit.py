"""ASGI middleware: reads the whole request body, up to limits of size and time, before the application runs.

A slow sender therefore never occupies a place in the admission queue. The bodies of all requests together are limited,
too: the queue limits requests, but not those that are still arriving.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.errors import CallerError, Overloaded, RequestTooLarge, RequestTooSlow
from recsys.observability import SHED
from recsys.web.error_response import error_response

MAX_BODY_BYTES = 1_000_000
BODY_SECONDS = 10.0
"""The time in which a whole body has to arrive, however many parts it has."""
MAX_HELD_BYTES = 32_000_000
"""All bodies that a process holds at once, of requests that arrive, wait or run."""

HELD = Gauge("tandem_body_bytes", "Bytes of request bodies in memory.")


class BodyLimitMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._holding() as hold:
            try:
                pending = [await _read_in_time(scope, receive, hold)]
            except (CallerError, Overloaded) as error:
                await error_response(error)(scope, receive, send)
                return

            async def receive_body() -> Message:
                return pending.pop() if pending else await receive()

            await self._app(scope, receive_body, send)

    @contextmanager
    def _holding(self) -> Iterator[Callable[[int], None]]:
        """A function that counts bytes as held until the block ends. It raises Overloaded if there is no room."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._held + size > MAX_HELD_BYTES:
                SHED.inc()
                raise Overloaded(f"the bodies of other requests fill the {MAX_HELD_BYTES:,} bytes for bodies")
            mine += size
            self._held += size
            HELD.inc(size)

        try:
            yield hold
        finally:
            self._held -= mine
            HELD.dec(mine)


async def _read_in_time(scope: Scope, receive: Receive, hold: Callable[[int], None]) -> Message:
    """The whole body as one message. Raises RequestTooLarge, RequestTooSlow and Overloaded."""
    content_length = dict(scope["headers"]).get(b"content-length", b"0")
    if content_length.isdigit() and int(content_length) > MAX_BODY_BYTES:
        raise RequestTooLarge(_too_large(int(content_length)))
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, hold)
    except TimeoutError:
        raise RequestTooSlow(f"the body did not arrive within {BODY_SECONDS:g} s") from None


async def _read(receive: Receive, hold: Callable[[int], None]) -> Message:
    message = await receive()
    hold(len(message.get("body", b"")))
    if not message.get("more_body", False):
        return message
    body = bytearray(message.get("body", b""))  # grows in place, so the work is proportional to the size
    while message.get("more_body", False):
        message = await receive()
        part = message.get("body", b"")
        hold(len(part))
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(_too_large(len(body)))
    return {**message, "body": bytes(body)} if message["type"] == "http.request" else message


def _too_large(received: int) -> str:
    return f"the body has {received:,} bytes or more; at most {MAX_BODY_BYTES:,} are allowed"
