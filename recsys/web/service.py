"""What the services that speak JSON have in common: limits, error answers, health, metrics."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from recsys.contracts.base import ErrorResponse
from recsys.errors import InvalidRequest, TandemError
from recsys.observability import ObservabilityMiddleware
from recsys.web.admission import Admission, AdmissionMiddleware
from recsys.web.body_limit import BodyLimitMiddleware
from recsys.web.error_response import error_response
from recsys.web.security_headers import SecurityHeadersMiddleware
from recsys.web.strict_route import StrictRoute
from recsys.web.unhandled_error import UnhandledErrorMiddleware

ERRORS = (404, 408, 409, 413, 422, 429, 502, 503, 504)
"""What any endpoint of ours may answer with beside its own status."""
SHOWN_PROBLEMS = 5
SHOWN_INPUT = 80
"""Characters of a refused value, and of its place, that are repeated in the answer."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


class AnyText(Convertor[str]):
    """For ids in paths, as `{item_id:any}`: unlike `path`, it lets line breaks through too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", AnyText())


def create_router(prefix: str, tags: list[str | Enum] | None = None, dependencies: Sequence[Depends] = ()) -> APIRouter:
    """A router that reads requests strictly and knows `{item_id:any}`, with every error that may be answered."""
    return APIRouter(
        prefix=prefix,
        tags=tags,
        dependencies=list(dependencies),
        route_class=StrictRoute,
        responses=documented(*ERRORS),
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers as the description of an API names them."""
    return {status: {"model": ErrorResponse} for status in statuses}


class Readiness(BaseModel):
    ready: bool
    dependencies: dict[str, str]
    """`ok`, or what is wrong, by name."""


def create_api(
    title: str,
    description: str,
    admission: Admission,
    lifespan: Lifespan | None = None,
    gates: Sequence[Middleware] = (),
) -> FastAPI:
    """An app that limits, observes, and answers every error as `ErrorResponse`.

    `gates` stand before everything that reads a request, the first of them outermost.
    """
    app = FastAPI(
        title=title,
        description=description,
        lifespan=lifespan,
        responses=documented(405),
        redirect_slashes=False,  # a redirect would tell the address that this service has behind a proxy
    )
    app.add_middleware(AdmissionMiddleware, admission=admission)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(UnhandledErrorMiddleware)
    for gate in reversed(gates):
        app.add_middleware(gate.cls, *gate.args, **gate.kwargs)
    app.add_middleware(ObservabilityMiddleware)
    app.add_exception_handler(TandemError, _answer_tandem_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    return app


def create_service(
    title: str,
    description: str,
    admission: Admission,
    lifespan: Lifespan,
    readiness: Callable[[Request], Awaitable[Readiness]],
    gates: Sequence[Middleware] = (),
) -> FastAPI:
    """Such an app with its health, readiness, metrics and headers; BentoML brings its own to what is mounted in it."""
    app = create_api(title, description, admission, lifespan, gates)
    app.add_middleware(SecurityHeadersMiddleware)

    @app.get("/healthz", tags=["operation"], summary="Alive? Depends on nothing else.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="Ready to serve? Names each dependency.",
        responses={503: {"model": Readiness}},
    )
    async def readyz(request: Request, response: Response) -> Readiness:
        state = await readiness(request)
        response.status_code = 200 if state.ready else 503
        return state

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse, summary="Prometheus metrics.")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


async def _answer_tandem_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return error_response(error)


async def _answer_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    told = [_problem(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        told.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    return error_response(InvalidRequest("; ".join(told)))


def _problem(problem: dict[str, Any]) -> str:
    """Where, what was expected, what arrived."""
    place = ".".join(str(part) for part in problem["loc"])
    return f"{_shortened(place)}: {problem['msg']}; got {_shortened(repr(problem.get('input')))}"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_INPUT else text[:SHOWN_INPUT] + "..."


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, TandemError):  # FastAPI's wrapping of what was raised while it read the body
        return error_response(error.__cause__)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    told = ErrorResponse(error=code, detail=f"{request.method} {request.scope['path']}: {error.detail}")
    return JSONResponse(told.model_dump(), error.status_code, headers=error.headers)
