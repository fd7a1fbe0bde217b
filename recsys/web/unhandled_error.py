"""ASGI middleware: logs an unhandled exception and answers with a 500 that reveals nothing about it."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.errors import TandemError
from recsys.web.error_response import error_response

log = structlog.get_logger()


class UnhandledErrorMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            log.error("unexpected_error", path=scope["path"], exc_info=error)
            public_error = TandemError("unexpected error; see the log for this request id")
            await error_response(public_error)(scope, receive, send)
