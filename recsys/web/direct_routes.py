"""ASGI middleware: answers a service's busiest calls itself, without FastAPI's routing, injection and serialisation.

These take 0.3 ms per call, as much as the work. The endpoints exist in FastAPI too, which describes them; a call that
is unusual in any way is left to it, so this needs no error messages of its own.
`tests/integration/test_direct_routes.py` checks that both answer the same.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.errors import TandemError
from recsys.web.api_paths import path_of
from recsys.web.error_response import error_response

T = TypeVar("T")
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class DirectRoute(Generic[T]):
    path: str
    """The path of the endpoint in FastAPI, for metrics and logs."""
    parse: Callable[[Scope, bytes], T | None]
    """The request; None, or a raised ValueError, leaves the call to FastAPI."""
    answer: Callable[[Scope, T], Awaitable[BaseModel]]
    """Raises TandemError."""


FindRoute = Callable[[str, str], DirectRoute[T] | None]
"""From method and path."""


class DirectRoutesMiddleware:
    """The innermost middleware, behind `BodyLimitMiddleware`, which delivers bodies as one message."""

    def __init__(self, app: ASGIApp, find: FindRoute[T]) -> None:
        self._app = app
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope["method"], path_of(scope)) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        message = await receive()
        try:
            request = route.parse(scope, message.get("body", b""))
        except ValueError:  # pydantic's, too
            request = None
        if request is None:
            await self._app(scope, _repeating(message, receive), send)
            return
        scope["route"] = route
        try:
            response = await route.answer(scope, request)
        except TandemError as error:
            await error_response(error)(scope, receive, send)
            return
        body = response.__pydantic_serializer__.to_json(response)
        headers = [(b"content-length", str(len(body)).encode()), JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def is_json(scope: Scope) -> bool:
    return JSON in scope["headers"]


def header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for each, value in scope["headers"] if each == name), None)


def _repeating(message: Message, receive: Receive) -> Receive:
    pending = [message]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
