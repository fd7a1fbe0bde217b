"""API keys, rate limits and CORS for everything under /v1. Calls are refused before their body is read.

Logs, metrics and limits identify a caller by the name of its key. Several keys are valid at the same time, so keys can
be rotated without downtime.
"""

import hashlib
import hmac
import math
import re
import time
from collections.abc import Mapping, Sequence

import structlog
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.errors import CallerError, RateLimited, Unauthorized
from recsys.web.api_paths import is_api_call
from recsys.web.error_response import error_response

KEY_HEADER = "X-API-Key"
MIN_KEY_LENGTH = 16
ANONYMOUS = "anybody"
"""The caller's name if no keys are configured."""
UNAUTHENTICATED = "nobody"
"""The caller's name if its key is missing or not valid."""

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


class ApiKeys:
    """The valid keys, stored as digests."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """From `name:key,name:key`. Raises `ValueError`, whose message never contains a key."""
        keys: dict[str, str] = {}
        for number, entry in enumerate(filter(None, text.split(",")), start=1):
            name, colon, key = (part.strip() for part in entry.partition(":"))
            if not colon or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,31}", name):
                raise ValueError(
                    f"entry {number} is not `name:key` with a name of up to 32 characters from a-z, 0-9, _, . and -"
                )
            if len(key) < MIN_KEY_LENGTH or not re.fullmatch(r"[!-~]+", key):
                raise ValueError(f"the key of {name!r} needs {MIN_KEY_LENGTH} or more printable ASCII characters")
            if name in keys:
                raise ValueError(f"two keys have the name {name!r}")
            if key in keys.values():
                raise ValueError(f"the key of {name!r} also has another name")
            keys[name] = key
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def name_of(self, key: bytes) -> str | None:
        """The name of a key, or None if it is not valid. Takes the same time for every key."""
        digest = _digest(key)
        match = None
        for name, expected in self._digests.items():
            if hmac.compare_digest(digest, expected):
                match = name
        return match


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
                seconds = max(1, math.ceil(reset - time.time()))
                raise RateLimited(
                    f"the caller {caller!r} exceeded its limit of {window}; try again in {seconds} s", seconds
                )


class ApiKeyMiddleware:
    """ASGI middleware: refuses calls without a valid key, and calls over the rate limit."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, limits: RateLimits | None) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_api_call(scope):
            try:
                self._admit(scope)
            except CallerError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Raises `Unauthorized` or `RateLimited`."""
        caller, outcome = UNAUTHENTICATED if self._keys else ANONYMOUS, "let_in"
        try:
            if self._keys:
                caller = self._caller(scope)
            if self._limits is not None:
                self._limits.count(caller)
        except CallerError as error:
            outcome = error.code
            raise
        finally:
            structlog.contextvars.bind_contextvars(caller=caller)
            CALLS.labels(caller, outcome).inc()

    def _caller(self, scope: Scope) -> str:
        header = KEY_HEADER.lower().encode()
        key = next((value for name, value in scope["headers"] if name == header), None)
        if key is None:
            raise Unauthorized(f"the header {KEY_HEADER} is missing; it must contain an API key")
        name = self._keys.name_of(key)
        if name is None:
            raise Unauthorized(f"the API key in the header {KEY_HEADER} is not valid")
        return name


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
