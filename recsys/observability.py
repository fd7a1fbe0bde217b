"""Logging and metrics: one JSON log line per request, with a request id, and the Prometheus metrics of the services."""

import json
import logging
import secrets
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = b"x-request-id"
MAX_REQUEST_ID = 64
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
FIRST_ERROR = 400

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The values of the label `method`, besides `other`: callers may invent methods, and every value stays in memory."""

REQUESTS = Counter("tandem_requests_total", "Requests by route and status.", ["route", "method", "status"])
LATENCY = Histogram("tandem_request_seconds", "Response time by route.", ["route", "method"], buckets=BUCKETS)
IN_PROGRESS = Gauge("tandem_requests_in_progress", "Requests in progress.")
QUEUED = Gauge("tandem_queue_depth", "Requests waiting in the queue.")
SHED = Counter("tandem_shed_total", "Requests refused because of overload.")
DEADLINE_MISSES = Counter("tandem_deadline_misses_total", "Requests answered after their deadline.")
QUALITY = Gauge("tandem_quality_factor", "The fraction of the candidates that is retrieved and ranked.")
ANSWERS = Counter("tandem_recommendations_total", "Recommendations by tier and reason.", ["tier", "reason"])
STAGES = Histogram("tandem_stage_seconds", "Duration of each stage of a recommendation.", ["stage"], buckets=BUCKETS)

LogFields = dict[str, Any]
_LINE = "_line"
"""The field with the event name of the line that says that a request was served."""
_fields: ContextVar[LogFields] = ContextVar("fields")
"""The fields of the current request's log lines. One variable holds them all: a context variable per field costs more
than the rest of a log line."""
_service_fields: LogFields = {}
"""Fields of every log line of this process."""

log = structlog.get_logger()


def configure_logging(service: str, level: str) -> None:
    """Log JSON lines to standard output. JSON escapes newlines, so a logged id cannot forge a line."""
    structlog.configure(
        processors=[
            _add_fields,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    _service_fields["service"] = service


def annotate_request_log(event: str | None = None, **fields: object) -> None:
    """Add fields to the current request's log lines, and set the event name of the line that says it was served."""
    current = _fields.get(None)
    if current is not None:
        current.update(fields)
        if event is not None:
            current[_LINE] = event


@contextmanager
def request_log(request_id: str) -> Iterator[LogFields]:
    """The fields of a request's log lines, for the time of the request."""
    fields: LogFields = {"request_id": request_id}
    token = _fields.set(fields)
    try:
        yield fields
    finally:
        _fields.reset(token)


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count and time a request. `route` and `method` must be from a fixed set."""
    requests, latency = _metrics_of(route, method, status)
    requests.inc()
    latency.observe(seconds)


class ObservabilityMiddleware:
    """ASGI middleware: gives every request an id, counts and times it, and logs one line for it."""

    def __init__(self, app: ASGIApp, *, log_all: bool = True) -> None:
        """Without `log_all`, only errors are logged."""
        self._app = app
        self._log_all = log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(scope)
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        IN_PROGRESS.inc()
        with request_log(request_id) as fields:
            try:
                await self._app(scope, receive, observed_send)
            finally:
                IN_PROGRESS.dec()
                seconds = time.perf_counter() - started
                route = route_of(scope)
                method = scope["method"] if scope["method"] in METHODS else "other"
                observe_request(route, method, status, seconds)
                if status >= FIRST_ERROR or (self._log_all and scope["path"] not in QUIET_PATHS):
                    line = fields.pop(_LINE, "request_served")
                    latency_ms = round(seconds * 1000, 3)
                    log.info(line, route=route, method=method, status=status, latency_ms=latency_ms)


def route_of(scope: Scope) -> str:
    """The template of the path, which does not contain what callers send."""
    route: str = getattr(scope.get("route"), "path", "unmatched")
    return route


def request_id_of(scope: Scope) -> str:
    """The caller's, if it is short and alphanumeric, or a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and 0 < len(value) <= MAX_REQUEST_ID and value.isalnum():
            return str(value.decode("ascii"))
    return secrets.token_hex(16)


def _add_fields(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**_service_fields, **_fields.get({}), **event}


def _as_json(event: Any, **_: object) -> str:
    """pydantic's encoder takes a fraction of the standard library's time, which accepts lone surrogates, too."""
    try:
        return to_json(event, fallback=repr).decode()
    except ValueError:
        return json.dumps(event, default=repr)


@cache
def _metrics_of(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(route, method, str(status)), LATENCY.labels(route, method)
