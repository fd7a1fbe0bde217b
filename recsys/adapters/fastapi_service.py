"""What the services that speak JSON have in common: limits, error answers, health, metrics."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from recsys.adapters.security_headers import SecurityHeaders
from recsys.adapters.strict_route import StrictRoute
from recsys.contracts.base import ErrorAnswer
from recsys.errors import InvalidRequest, RequestTooLarge, TandemError
from recsys.observability import App, Message, ObserveRequests, Receive, Scope, Send

MAX_BODY_BYTES = 1_000_000
ERRORS = (404, 409, 413, 422, 502, 503, 504)
"""What any endpoint of ours may answer with beside its own status."""
SHOWN_PROBLEMS = 5
SHOWN_INPUT = 80
"""Characters of a refused value, and of its place, that are repeated in the answer."""

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
    """A router that reads requests strictly and knows `{item_id:any}`, with every error that may be answered."""
    return APIRouter(prefix=prefix, tags=tags, route_class=StrictRoute, responses=documented(*ERRORS))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers as the description of an API names them."""
    return {status: {"model": ErrorAnswer} for status in statuses}


class Readiness(BaseModel):
    ready: bool
    dependencies: dict[str, str]
    """`ok`, or what is wrong, by name."""


def create_api(
    title: str, description: str, lifespan: Lifespan | None = None, gates: Sequence[Middleware] = ()
) -> FastAPI:
    """An app that limits, observes, and answers every error as `ErrorAnswer`.

    `gates` stand before everything that reads a request, the first of them outermost.
    """
    app = FastAPI(
        title=title,
        description=description,
        lifespan=lifespan,
        responses=documented(405),
        redirect_slashes=False,  # a redirect would tell the address that this service has behind a proxy
    )
    app.add_middleware(LimitBody)
    app.add_middleware(AnswerUnexpected)
    for gate in reversed(gates):
        app.add_middleware(gate.cls, *gate.args, **gate.kwargs)
    app.add_middleware(ObserveRequests)
    app.add_exception_handler(TandemError, _answer_tandem_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    return app


def create_service(
    title: str,
    description: str,
    lifespan: Lifespan,
    readiness: Callable[[Request], Awaitable[Readiness]],
    gates: Sequence[Middleware] = (),
) -> FastAPI:
    """Such an app with its health, readiness, metrics and headers; BentoML brings its own to what is mounted in it."""
    app = create_api(title, description, lifespan, gates)
    app.add_middleware(SecurityHeaders)

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


class AnswerUnexpected:
    """ASGI middleware: an error that nobody foresaw goes to the log, and the caller learns only where to look."""

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
            await refusal(told)(scope, receive, send)


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
            await refusal(RequestTooLarge(_too_large(int(announced))))(scope, receive, send)
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


def refusal(error: TandemError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(ErrorAnswer(error=error.code, detail=str(error)).model_dump(), error.status, headers)


async def _answer_tandem_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return refusal(error)


async def _answer_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    told = [_problem(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        told.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    return refusal(InvalidRequest("; ".join(told)))


def _problem(problem: dict[str, Any]) -> str:
    """Where, what was expected, what arrived."""
    place = ".".join(str(part) for part in problem["loc"])
    return f"{_shortened(place)}: {problem['msg']}; got {_shortened(repr(problem.get('input')))}"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_INPUT else text[:SHOWN_INPUT] + "..."


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, TandemError):  # FastAPI's wrapping of what was raised while it read the body
        return refusal(error.__cause__)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    told = ErrorAnswer(error=code, detail=f"{request.method} {request.scope['path']}: {error.detail}")
    return JSONResponse(told.model_dump(), error.status_code, headers=error.headers)
