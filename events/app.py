"""`uvicorn --factory events.app:create_app` runs the collector, with health, readiness and metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from events.bootstrap import open_collector
from events.settings import CollectorSettings
from recsys.deadline import LONGEST_MS
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.internal_token import InternalTokenMiddleware
from recsys.web.readiness import OK, Readiness
from recsys.web.service import create_service, middleware_stack

ADMISSION = Admission(max_concurrent=4, max_queued=4, deadline_ms=LONGEST_MS, may_wait=0.75)


def create_app() -> FastAPI:
    settings = CollectorSettings()
    configure_logging("collector", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_collector(settings) as (collector, reporter):
            yield {"collector": collector, "reporter": reporter}

    async def readiness(request: Request) -> Readiness:
        """Reports may fail; nothing is lost by that."""
        state: str = request.state.collector.state
        return Readiness(ready=state == OK, dependencies={"event_log": state, "report": request.state.reporter.state})

    return create_service(
        "Tandem collector",
        "Moves the event log from Redis into files, and reports what users did with each release.",
        lifespan,
        readiness,
        middleware_stack(ADMISSION, [Middleware(InternalTokenMiddleware, settings.internal_token)], log_all=False),
    )
