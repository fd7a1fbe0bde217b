"""Who may call: API keys, rate limits and CORS. Calls are refused before their body is read.

Logs, metrics and limits identify a caller by the name of its key.
"""

import math
import time
from collections.abc import Sequence

from fastapi import Request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api_keys import ANONYMOUS, UNAUTHENTICATED, ApiKeys, Caller, needed_scope
from recsys.errors import CallerError, RateLimited, Unauthorized
from recsys.observability import annotate_request_log
from recsys.web.api_paths import is_api_call, path_of
from recsys.web.error_response import error_response
from recsys.web.security_headers import PAGE_PATHS

KEY_HEADER = "X-API-Key"
OPEN_PATHS = PAGE_PATHS | {"/healthz", "/readyz", "/openapi.json"}
"""They need no key."""

CALLS = Counter("tandem_calls_total", "Calls by the name of their key and by outcome.", ["caller", "outcome"])


def cors_middleware(origins: Sequence[str]) -> Middleware:
    """Allows browser calls from pages of these origins. It answers preflight requests, which carry no key."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type", KEY_HEADER, "X-Deadline-Ms", "X-Request-Id", "X-Variant"],
        expose_headers=["X-Request-Id", "Retry-After"],
    )


class RateLimits:
    """Limits the calls per caller in sliding windows. Each process counts its own calls."""

    def __init__(self, windows: list[RateLimitItem]) -> None:
        self._windows = windows
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    @classmethod
    def parse(cls, text: str) -> "RateLimits":
        """From one limit (`1000/second`) or several (`100/second;2000/minute`). Raises `ValueError`."""
        return cls(parse_many(text))

    def count(self, caller: str) -> None:
        """Count one call. Raises `RateLimited` if the caller exceeds a limit."""
        for window in self._windows:
            if not self._limiter.hit(window, caller):
                reset = self._limiter.get_window_stats(window, caller).reset_time
                seconds = max(1, math.ceil(reset - time.time()))  # noqa: TID251 (the library's clock)
                raise RateLimited(
                    f"the caller {caller!r} exceeded its limit of {window}; try again in {seconds} s", seconds
                )


class ApiKeyMiddleware:
    """ASGI middleware: refuses calls without a valid key or the needed scope, and calls over the rate limit."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, limits: RateLimits | None) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_api_call(scope) or (self._keys and scope["type"] == "http" and path_of(scope) not in OPEN_PATHS):
            try:
                scope.setdefault("state", {})["caller"] = self._admit(scope)
            except CallerError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        """Raises `Unauthorized`, `Forbidden` or `RateLimited`."""
        caller, outcome = UNAUTHENTICATED if self._keys else ANONYMOUS, "let_in"
        try:
            if self._keys:
                caller = self._identify(scope)
            if self._limits is not None and is_api_call(scope):
                self._limits.count(caller.name)
            caller.require(needed_scope(path_of(scope)), "this path")
        except CallerError as error:
            outcome = error.code
            raise
        finally:
            annotate_request_log(caller=caller.name)
            CALLS.labels(caller.name, outcome).inc()
        return caller

    def _identify(self, scope: Scope) -> Caller:
        key = _sent_key(scope)
        if key is None:
            raise Unauthorized(f"the header {KEY_HEADER} is missing; it must contain an API key")
        caller = self._keys.caller_of(key)
        if caller is None:
            raise Unauthorized(f"the API key in the header {KEY_HEADER} is not valid")
        return caller


async def current_caller(request: Request) -> Caller:  # async: FastAPI runs plain functions in a thread
    caller: Caller = request.state.caller
    return caller


def _sent_key(scope: Scope) -> bytes | None:
    """The key in `X-API-Key: <key>`, or in `Authorization: Bearer <key>`, which Prometheus can send."""
    headers = dict(scope["headers"])
    key: bytes | None = headers.get(KEY_HEADER.lower().encode())
    if key is None:
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        key = credentials if scheme.lower() == b"bearer" else None
    return key
