"""What the services that speak JSON have in common: limits, error answers, health, metrics."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from recsys.contracts.base import ErrorAnswer
from recsys.errors import InvalidRequest, RequestTooLarge, TandemError
from recsys.observability import App, Message, ObserveRequests, Receive, Scope, Send

MAX_BODY_BYTES = 1_000_000
SHOWN_PROBLEMS = 5
SHOWN_INPUT = 80
"""Characters of a refused value that are repeated in the answer."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
log = structlog.get_logger()


class AnyText(Convertor[str]):
    """For ids in paths, as `{item_id:any}`: unlike `path`, it lets line breaks through too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", AnyText())


def create_router(prefix: str, tags: list[str | Enum] | None = None) -> APIRouter:
    """A router for paths with ids in them: `{item_id:any}` is known wherever this was imported."""
    return APIRouter(prefix=prefix, tags=tags)


class Readiness(BaseModel):
    ready: bool
    dependencies: dict[str, str]
    """`ok`, or what is wrong, by name."""


def create_api(title: str, description: str, lifespan: Lifespan | None = None) -> FastAPI:
    """An app that limits, observes, and answers every error as `ErrorAnswer`."""
    app = FastAPI(
        title=title,
        description=description,
        lifespan=lifespan,
        responses={422: {"model": ErrorAnswer}, 413: {"model": ErrorAnswer}, 503: {"model": ErrorAnswer}},
    )
    app.add_middleware(LimitBody)
    app.add_middleware(ObserveRequests)
    app.add_exception_handler(TandemError, _answer_tandem_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_unexpected)
    return app


def create_service(
    title: str, description: str, lifespan: Lifespan, readiness: Callable[[Request], Awaitable[Readiness]]
) -> FastAPI:
    """Such an app with its health, readiness and metrics; BentoML brings its own to what is mounted in it."""
    app = create_api(title, description, lifespan)

    @app.get("/healthz", tags=["operation"], summary="Alive? Depends on nothing else.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], summary="Ready to serve? Names each dependency.")
    async def readyz(request: Request, response: Response) -> Readiness:
        state = await readiness(request)
        response.status_code = 200 if state.ready else 503
        return state

    @app.get("/metrics", tags=["operation"], response_class=Response, summary="Prometheus metrics.")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


class LimitBody:
    """ASGI middleware: refuses a body over the limit before it is read into memory."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            await _refusal(RequestTooLarge(_too_large(int(announced))))(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise RequestTooLarge(_too_large(received))
            return message

        await self._app(scope, limited_receive, send)


def _too_large(received: int) -> str:
    return f"a body of {received:,} bytes or more arrived; at most {MAX_BODY_BYTES:,} are taken"


def _refusal(error: TandemError) -> JSONResponse:
    return JSONResponse(ErrorAnswer(error=error.code, detail=str(error)).model_dump(), error.status)


async def _answer_tandem_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return _refusal(error)


async def _answer_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    told = [_problem(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        told.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    return _refusal(InvalidRequest("; ".join(told)))


def _problem(problem: dict[str, Any]) -> str:
    """Where, what was expected, what arrived."""
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "json_invalid":
        return f"{place}: no JSON: {problem['ctx']['error']}"
    arrived = repr(problem.get("input"))
    if len(arrived) > SHOWN_INPUT:
        arrived = arrived[:SHOWN_INPUT] + "..."
    return f"{place}: {problem['msg']}; got {arrived}"


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, TandemError):  # FastAPI's wrapping of what was raised while it read the body
        return _refusal(error.__cause__)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    told = ErrorAnswer(error=code, detail=f"{request.method} {request.url.path}: {error.detail}")
    return JSONResponse(told.model_dump(), error.status_code, headers=error.headers)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    return _refusal(TandemError("an unexpected error; the log has it under this request's id"))
