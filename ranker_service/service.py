"""`bentoml serve ranker_service.service:RankerService`

The endpoints are an ASGI app inside the Bento, because BentoML's own JSON APIs take three times the CPU per request.
BentoML provides /livez, /healthz and /readyz, and starts and supervises the worker. Its own metrics are off, because
they keep every path that was ever called.

BentoML imports this module in its supervisor, too. What only the worker needs, such as torch and MLflow, is imported
when the worker creates the service: that halves the memory and the time to start.
"""

import os
from contextlib import AsyncExitStack
from typing import Any, cast

# The worker inherits this, and NumPy reads it on import. OpenBLAS threads wait for each other in busy loops, so on busy
# cores a matrix product with several threads takes ten times as long as with one.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")
# BentoML sets this, so that several workers can add up their metrics. This service has one worker, and counting in
# memory instead of in files takes 3% less of its CPU.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import bentoml
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker_service.settings import RankerSettings
from recsys.web.api_paths import is_api_call
from recsys.web.internal_token import InternalTokenMiddleware
from recsys.web.security_headers import SecurityHeadersMiddleware

TIMEOUT_SECONDS = 2
"""Short, because BentoML keeps a timer per request for this long."""

settings = RankerSettings()


class Api:
    """The app of the endpoints. It hides from BentoML that this is a FastAPI app, so that the app answers requests to
    unknown paths itself."""

    app: ASGIApp
    """Set when the worker creates the service, before the first request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


api = Api()


class ApiFirst:
    """ASGI middleware: answers API calls without BentoML's own layers, which cost as much as a query embedding."""

    def __init__(self, app: ASGIApp) -> None:
        self._bento = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (api.app if is_api_call(scope) else self._bento)(scope, receive, send)


@bentoml.service(
    name="ranker",
    workers=1,
    traffic={"timeout": TIMEOUT_SECONDS},
    tracing={"excluded_urls": "/v1/.*"},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
@bentoml.asgi_app(api, path="/")
class RankerService:
    def __init__(self) -> None:
        from ranker_service.app import create_app
        from ranker_service.bootstrap import open_release_watch, tune_process
        from recsys.adapters.local_ranker import LocalRanker
        from recsys.observability import configure_logging

        configure_logging("ranker_service", settings.log_level)
        tune_process()
        self._ranker = LocalRanker()
        api.app = create_app(self._ranker, TIMEOUT_SECONDS)
        self._watch = open_release_watch(settings, self._ranker)
        self._open = AsyncExitStack()

    @bentoml.on_startup
    async def start_watching(self) -> None:
        from ranker_service.bootstrap import following_events

        self._watch.start()
        await self._open.enter_async_context(following_events(settings, self._ranker))

    @bentoml.on_shutdown
    async def stop_watching(self) -> None:
        await self._open.aclose()
        self._watch.close()

    async def __is_ready__(self) -> bool:
        problems = "; ".join(self._watch.problems)
        if self._ranker.champion is None:
            raise HTTPException(503, detail=f"no release is loaded: {problems or 'there is no champion yet'}")
        if problems:  # still ready, with an older release; BentoML accepts a message only as an exception
            raise HTTPException(200, detail=f"release {self._ranker.champion} is serving, but: {problems}")
        return True


# These surround BentoML's own endpoints, too. The first one is outermost.
service = cast(Any, RankerService)  # the decorator returns a service, not a class
service.add_asgi_middleware(SecurityHeadersMiddleware)
service.add_asgi_middleware(InternalTokenMiddleware, token=settings.internal_token)
service.add_asgi_middleware(ApiFirst)
