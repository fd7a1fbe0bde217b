"""ASGI middleware: takes a request's body in whole before anything else is done for it, up to a limit of size and time,
so that a slow sender keeps nobody else waiting."""

import asyncio

from recsys.errors import CallerError, RequestTooLarge, RequestTooSlow
from recsys.observability import App, Message, Receive, Scope, Send
from recsys.web.error_response import error_response

MAX_BODY_BYTES = 1_000_000
BODY_SECONDS = 10.0


class BodyLimitMiddleware:
    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            taken = await _take(scope, receive)
        except CallerError as error:
            await error_response(error)(scope, receive, send)
            return

        async def receive_again() -> Message:
            return taken.pop() if taken else await receive()

        await self._app(scope, receive_again, send)


async def _take(scope: Scope, receive: Receive) -> list[Message]:
    """The whole body as one message, in a list that hands it out once. Raises RequestTooLarge and RequestTooSlow."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise RequestTooLarge(_too_large(int(announced)))
    message = await _next(receive)
    parts = [message.get("body", b"")]
    while message.get("more_body", False):
        message = await _next(receive)
        parts.append(message.get("body", b""))
        if (size := sum(map(len, parts))) > MAX_BODY_BYTES:
            raise RequestTooLarge(_too_large(size))
    return [{**message, "body": b"".join(parts)} if message["type"] == "http.request" else message]


async def _next(receive: Receive) -> Message:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await receive()
    except TimeoutError:
        raise RequestTooSlow(f"nothing more of the body arrived for {BODY_SECONDS:g} s") from None


def _too_large(received: int) -> str:
    return f"a body of {received:,} bytes or more arrived; at most {MAX_BODY_BYTES:,} are taken"
