"""The headers that tell a browser to do nothing with an answer but read it."""

from recsys.observability import App, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

EVERYWHERE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
NOTHING: Headers = ((b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),)
NOT_KEPT: Headers = ((b"cache-control", b"no-store"),)
PAGES: Headers = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
        b"style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
        b"font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com; "
        b"worker-src blob:; connect-src 'self'; frame-ancestors 'none'",
    ),
)
"""What the pages that FastAPI makes of the API's description load."""
PAGE_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})
OF_AN_ANSWER = EVERYWHERE + NOTHING + NOT_KEPT
OF_A_PAGE = EVERYWHERE + PAGES


class SecurityHeadersMiddleware:
    """ASGI middleware: adds them to every answer."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = OF_A_PAGE if scope["path"] in PAGE_PATHS else OF_AN_ANSWER

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)
