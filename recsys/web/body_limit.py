"""ASGI middleware: reads the whole request body, up to a limit of size and time, before the application runs.

A slow sender therefore never occupies a place in the admission queue.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.errors import CallerError, RequestTooLarge, RequestTooSlow
from recsys.web.error_response import error_response

MAX_BODY_BYTES = 1_000_000
BODY_SECONDS = 10.0
"""The time in which a whole body has to arrive, however many parts it has."""


class BodyLimitMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            pending = [await _read_in_time(scope, receive)]
        except CallerError as error:
            await error_response(error)(scope, receive, send)
            return

        async def receive_body() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, receive_body, send)


async def _read_in_time(scope: Scope, receive: Receive) -> Message:
    """The whole body as one message. Raises RequestTooLarge and RequestTooSlow."""
    content_length = dict(scope["headers"]).get(b"content-length", b"0")
    if content_length.isdigit() and int(content_length) > MAX_BODY_BYTES:
        raise RequestTooLarge(_too_large(int(content_length)))
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive)
    except TimeoutError:
        raise RequestTooSlow(f"the body did not arrive within {BODY_SECONDS:g} s") from None


async def _read(receive: Receive) -> Message:
    message = await receive()
    if not message.get("more_body", False):
        return message
    body = bytearray(message.get("body", b""))  # grows in place, so the work is proportional to the size
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(_too_large(len(body)))
    return {**message, "body": bytes(body)} if message["type"] == "http.request" else message


def _too_large(received: int) -> str:
    return f"the body has {received:,} bytes or more; at most {MAX_BODY_BYTES:,} are allowed"
