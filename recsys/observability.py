"""Logging and metrics: one JSON log line per request, with a request id, and the Prometheus metrics of the services."""

import logging
import sys
import time
import uuid

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = b"x-request-id"
MAX_REQUEST_ID = 64
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The values of the label `method`, besides `other`: callers may invent methods, and every value stays in memory."""

REQUESTS = Counter("tandem_requests_total", "Requests by route and status.", ["route", "method", "status"])
LATENCY = Histogram("tandem_request_seconds", "Response time by route.", ["route", "method"], buckets=BUCKETS)
IN_PROGRESS = Gauge("tandem_requests_in_progress", "Requests in progress.", multiprocess_mode="livesum")
QUEUED = Gauge("tandem_queue_depth", "Requests waiting in the queue.", multiprocess_mode="livesum")
SHED = Counter("tandem_shed_total", "Requests refused because of overload.")
DEADLINE_MISSES = Counter("tandem_deadline_misses_total", "Requests answered after their deadline.")
QUALITY = Gauge(
    "tandem_quality_factor", "The fraction of the candidates that is retrieved and ranked.", multiprocess_mode="min"
)
ANSWERS = Counter("tandem_recommendations_total", "Recommendations by tier and reason.", ["tier", "reason"])
STAGES = Histogram("tandem_stage_seconds", "Duration of each stage of a recommendation.", ["stage"], buckets=BUCKETS)

log = structlog.get_logger()


def configure_logging(service: str, level: str) -> None:
    """Log JSON lines to standard output. JSON escapes newlines, so a logged id cannot forge a line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def annotate_request_log(event: str, **fields: object) -> None:
    """Set the event name of the current request's log line, and add fields to it."""
    structlog.contextvars.bind_contextvars(line=event, **fields)


class ObservabilityMiddleware:
    """ASGI middleware: gives every request an id, counts and times it, and logs one line per request."""

    def __init__(
        self, app: ASGIApp, quiet_paths: frozenset[str] = frozenset({"/healthz", "/readyz", "/metrics"})
    ) -> None:
        self._app = app
        self._quiet_paths = quiet_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        with IN_PROGRESS.track_inprogress(), structlog.contextvars.bound_contextvars(request_id=request_id):
            before = structlog.contextvars.get_contextvars()
            try:
                await self._app(scope, receive, observed_send)
            finally:
                spent = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", "unmatched")
                method = scope["method"] if scope["method"] in METHODS else "other"
                REQUESTS.labels(route, method, str(status)).inc()
                LATENCY.labels(route, method).observe(spent)
                if scope["path"] not in self._quiet_paths:
                    fields = structlog.contextvars.get_contextvars()
                    structlog.contextvars.unbind_contextvars("line")
                    log.info(
                        fields.get("line", "request_served"),
                        route=route,
                        method=method,
                        status=status,
                        latency_ms=round(spent * 1000, 3),
                    )
                structlog.contextvars.clear_contextvars()
                structlog.contextvars.bind_contextvars(**before)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and 0 < len(value) <= MAX_REQUEST_ID and value.isalnum():
            return str(value.decode("ascii"))
    return uuid.uuid4().hex
