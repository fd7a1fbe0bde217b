"""`bentoml serve ranker_service.service:RankerService`

The endpoints are an ASGI app inside the Bento: its own JSON APIs cost three times the CPU per request. BentoML brings
/livez, /healthz, /readyz and /metrics, the worker, and its supervision.
"""

import asyncio
import os
from typing import Any, cast

# Inherited by the worker, and read as it loads NumPy: the threads of its products wait actively for each other, which
# takes ten times as long as one thread does where the cores are busy.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")

import bentoml
from starlette.exceptions import HTTPException

from ranker_service.bootstrap import ReleaseWatch, tune_process
from ranker_service.endpoints import is_off_the_request_path, router
from ranker_service.settings import RankerSettings
from recsys.adapters.local_ranker import LocalRanker
from recsys.observability import Receive, Scope, Send, configure_logging
from recsys.web.admission import Admission
from recsys.web.security_headers import SecurityHeadersMiddleware
from recsys.web.service import create_api

TIMEOUT_SECONDS = 2
"""Short, as BentoML keeps a timer per request for as long as this."""

# One at a time, as nothing in there waits; the others' time runs while they do, and whoever's is over is not computed.
admission = Admission(
    max_concurrent=1,
    max_queued=64,
    deadline_ms=TIMEOUT_SECONDS * 1000,
    may_wait=0.75,
    exempt=is_off_the_request_path,
)
api = create_api("Tandem ranker", "Query embeddings and scores from the two-tower model.", admission)
api.include_router(router)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The API under a type that BentoML does not know: paths of nobody's are then answered by it, not by BentoML."""
    await api(scope, receive, send)


@bentoml.service(
    name="ranker",
    workers=1,
    traffic={"timeout": TIMEOUT_SECONDS},
    tracing={"excluded_urls": "/v1/.*"},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(answer, path="/")
class RankerService:
    def __init__(self) -> None:
        settings = RankerSettings()
        configure_logging("ranker_service", settings.log_level)
        tune_process()
        api.state.ranker = LocalRanker()
        self._watch = ReleaseWatch(settings, api.state.ranker)
        self._watching: asyncio.Task[None] | None = None

    @bentoml.on_startup
    async def start_watching(self) -> None:
        self._watching = asyncio.create_task(self._watch.run())

    @bentoml.on_shutdown
    async def stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watch.close()

    async def __is_ready__(self) -> bool:
        problems = "; ".join(self._watch.problems)
        if api.state.ranker.champion is None:
            raise HTTPException(503, detail=f"no release is loaded: {problems or 'there is no champion yet'}")
        if problems:  # ready all the same, by the release before; an exception is how BentoML takes a text
            raise HTTPException(200, detail=f"release {api.state.ranker.champion} serves, but: {problems}")
        return True


cast(Any, RankerService).add_asgi_middleware(SecurityHeadersMiddleware)  # the decorator made more than a class of it
