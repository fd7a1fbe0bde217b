"""The app factory of the HTTP services: middleware, error responses, health, readiness and metrics."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SerializeAsAny
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from recsys.contracts.base import ErrorResponse
from recsys.errors import InvalidRequest, TandemError
from recsys.observability import ObservabilityMiddleware
from recsys.web.admission import Admission, AdmissionMiddleware
from recsys.web.body_limit import BodyLimitMiddleware
from recsys.web.direct_routes import DirectRoutesMiddleware, FindRoute
from recsys.web.error_response import error_response
from recsys.web.readiness import Readiness
from recsys.web.security_headers import SecurityHeadersMiddleware
from recsys.web.strict_route import StrictRoute
from recsys.web.unhandled_error import UnhandledErrorMiddleware

ERRORS = (401, 404, 408, 409, 413, 422, 429, 502, 503, 504)
"""Error statuses that any endpoint may return."""
SHOWN_PROBLEMS = 5
SHOWN_INPUT = 80
"""Longest excerpt, in characters, of what a caller sent."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


class AnyText(Convertor[str]):
    """For ids in paths, as `{item_id:any}`. Unlike `path`, it also matches line breaks."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", AnyText())


def create_router(prefix: str, tags: list[str | Enum] | None = None, dependencies: Sequence[Depends] = ()) -> APIRouter:
    """A router that parses requests strictly, supports `{item_id:any}`, and documents every error."""
    return APIRouter(
        prefix=prefix,
        tags=tags,
        dependencies=list(dependencies),
        route_class=StrictRoute,
        responses=documented(*ERRORS),
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error responses for the OpenAPI description."""
    return {status: {"model": ErrorResponse} for status in statuses}


def middleware_stack(
    admission: Admission,
    caller_middleware: Sequence[Middleware] = (),
    find_route: FindRoute[Any] = lambda _, __: None,
    *,
    security_headers: bool = True,
    log_all: bool = True,
) -> list[Middleware]:
    """All middleware of a service, outermost first.

    A request passes through the list from top to bottom, its response from bottom to top. `caller_middleware` decides
    who may call (CORS, API keys) before the body is read. `find_route` finds the direct routes. Without `log_all`, only
    errors are logged, which is enough for a service whose caller logs every request.
    """
    return [
        *([Middleware(SecurityHeadersMiddleware)] if security_headers else []),
        Middleware(ObservabilityMiddleware, log_all=log_all),
        *caller_middleware,
        Middleware(UnhandledErrorMiddleware),
        Middleware(BodyLimitMiddleware),
        Middleware(AdmissionMiddleware, admission=admission),
        Middleware(DirectRoutesMiddleware, find=find_route),
    ]


def create_api(
    title: str, description: str, middleware: Sequence[Middleware], lifespan: Lifespan | None = None
) -> FastAPI:
    """An app with this middleware, outermost first, that returns every error as `ErrorResponse`."""
    return FastAPI(
        title=title,
        description=description,
        lifespan=lifespan,
        responses=documented(401, 405),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # these services have their own metrics and logs
        redirect_slashes=False,  # behind a proxy, a redirect would reveal this service's internal address
        middleware=middleware,
        exception_handlers={
            TandemError: _handle_tandem_error,
            RequestValidationError: _handle_validation_error,
            HTTPException: _handle_http_error,
        },
    )


def create_service(
    title: str,
    description: str,
    lifespan: Lifespan,
    readiness: Callable[[Request], Awaitable[Readiness]],
    middleware: Sequence[Middleware],
) -> FastAPI:
    """A standalone service: the API with health, readiness and metrics endpoints. BentoML has its own."""
    app = create_api(title, description, middleware, lifespan)

    @app.get("/healthz", tags=["operation"], summary="Liveness. Checks no dependency.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="Readiness: whether it can serve, and what is missing.",
        responses={503: {"model": Readiness}},
    )
    async def readyz(request: Request, response: Response) -> SerializeAsAny[Readiness]:
        state = await readiness(request)
        response.status_code = 200 if state.ready else 503
        return state

    add_metrics(app)
    return app


def add_metrics(app: FastAPI) -> None:
    @app.get(
        "/metrics",
        tags=["operation"],
        response_class=PlainTextResponse,
        responses=documented(403),
        summary="Prometheus metrics. If the service has API keys, one with the scope `operate` is required.",
    )
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _handle_tandem_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return error_response(error)


async def _handle_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    messages = [_describe(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        messages.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    return error_response(InvalidRequest("; ".join(messages)))


def _describe(problem: dict[str, Any]) -> str:
    """The location, the expectation and the received value."""
    location = ".".join(str(part) for part in problem["loc"])
    return f"{_shortened(location)}: {problem['msg']}; got {_shortened(repr(problem.get('input')))}"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_INPUT else text[:SHOWN_INPUT] + "..."


async def _handle_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, TandemError):  # FastAPI wraps what is raised while it reads the body
        return error_response(error.__cause__)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    sent = f"{_shortened(request.method)} {_shortened(request.scope['path'])}"
    response = ErrorResponse(error=code, detail=f"{sent}: {error.detail}")
    return JSONResponse(response.model_dump(), error.status_code, headers=error.headers)
