"""API keys with scopes, rate limits and CORS. Calls are refused before their body is read.

Logs, metrics and limits identify a caller by the name of its key. Several keys are valid at the same time, so keys can
be rotated without downtime.
"""

import hashlib
import hmac
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
from fastapi import Request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.errors import CallerError, Forbidden, RateLimited, Unauthorized
from recsys.web.api_paths import is_api_call, path_of
from recsys.web.error_response import error_response
from recsys.web.security_headers import PAGE_PATHS

KEY_HEADER = "X-API-Key"
MIN_KEY_LENGTH = 16
OPEN_PATHS = PAGE_PATHS | {"/healthz", "/readyz", "/openapi.json"}
"""They need no key."""


class KeyScope(StrEnum):
    """What a key may be used for."""

    RECOMMEND = "recommend"
    """Read recommendations and items."""
    EVENTS = "events"
    """Send events, and nothing else: the scope of a key that everybody can read, such as one in a page."""
    OPERATE = "operate"
    """Metrics, `debug`, the header `X-Variant`, and every path without another scope."""


DEFAULT_SCOPES = frozenset({KeyScope.RECOMMEND, KeyScope.EVENTS})
SCOPES = {
    "/v1/recommendations": KeyScope.RECOMMEND,
    "/v1/popular": KeyScope.RECOMMEND,
    "/v1/items": KeyScope.RECOMMEND,
    "/v1/events": KeyScope.EVENTS,
}
"""The scope that a path needs. A path below `/v1/items` needs the same."""


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    """The name of its key."""
    scopes: frozenset[KeyScope]
    digest: bytes = field(default=b"", repr=False)

    def require(self, scope: KeyScope, what: str) -> None:
        """Raises `Forbidden` if the caller's key does not have the scope."""
        if scope not in self.scopes:
            has = " and ".join(sorted(self.scopes))
            raise Forbidden(f"{what} needs a key with the scope {scope}; the key {self.name!r} has {has}")


ANYBODY = Caller("anybody", frozenset(KeyScope))
"""The caller if no keys are configured."""
NOBODY = Caller("nobody", frozenset())
"""The caller if its key is missing or not valid."""

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

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._callers = tuple(callers)

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """From `name:key,name:key:scope+scope`. Raises `ValueError`, whose message never contains a key."""
        callers: list[Caller] = []
        for number, entry in enumerate(filter(None, text.split(",")), start=1):
            name, colon, key_and_scopes = (part.strip() for part in entry.partition(":"))
            if not colon or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,31}", name):
                raise ValueError(
                    f"entry {number} is not `name:key` with a name of up to 32 characters from a-z, 0-9, _, . and -"
                )
            key, colon, scopes = key_and_scopes.partition(":")
            if len(key) < MIN_KEY_LENGTH or not re.fullmatch(r"[!-~]+", key):
                raise ValueError(
                    f"the key of {name!r} needs {MIN_KEY_LENGTH} or more printable ASCII characters without a colon"
                )
            caller = Caller(name, _scopes(name, scopes) if colon else DEFAULT_SCOPES, _digest(key.encode()))
            if name in {other.name for other in callers}:
                raise ValueError(f"two keys have the name {name!r}")
            if caller.digest in {other.digest for other in callers}:
                raise ValueError(f"the key of {name!r} also has another name")
            callers.append(caller)
        return cls(callers)

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller_of(self, key: bytes) -> Caller | None:
        """The caller with this key, or None if it is not valid. Takes the same time for every key."""
        digest = _digest(key)
        match = None
        for caller in self._callers:
            if hmac.compare_digest(digest, caller.digest):
                match = caller
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
        caller, outcome = NOBODY if self._keys else ANYBODY, "let_in"
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
            structlog.contextvars.bind_contextvars(caller=caller.name)
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


def needed_scope(path: str) -> KeyScope:
    """The scope that a path needs, without a proxy's prefix. Whatever is not listed needs `operate`."""
    for known, scope in SCOPES.items():
        if path == known or (known == "/v1/items" and path.startswith("/v1/items/")):
            return scope
    return KeyScope.OPERATE


def _sent_key(scope: Scope) -> bytes | None:
    """The key in `X-API-Key: <key>`, or in `Authorization: Bearer <key>`, which Prometheus can send."""
    headers = dict(scope["headers"])
    key: bytes | None = headers.get(KEY_HEADER.lower().encode())
    if key is None:
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        key = credentials if scheme.lower() == b"bearer" else None
    return key


def _scopes(name: str, text: str) -> frozenset[KeyScope]:
    try:
        return frozenset(KeyScope(word) for word in text.split("+"))
    except ValueError:
        named = ", ".join(KeyScope)
        raise ValueError(f"the scopes of {name!r} are not some of {named}, joined by +; a key has no colon") from None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
