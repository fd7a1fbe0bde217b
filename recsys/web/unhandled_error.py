"""ASGI middleware: an error that nobody foresaw goes to the log, and the caller learns only where to look."""

import structlog

from recsys.errors import TandemError
from recsys.observability import App, Message, Receive, Scope, Send
from recsys.web.error_response import error_response

log = structlog.get_logger()


class UnhandledErrorMiddleware:
    def __init__(self, app: App) -> None:
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
            told = TandemError("an unexpected error; the log has it under this request's id")
            await error_response(told)(scope, receive, send)
