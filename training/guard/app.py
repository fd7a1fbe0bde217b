"""`uvicorn --factory training.guard.app:create_app` runs the guard, with health, readiness and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from events.attribution.day_tallies import DayTallies
from events.settings import ReportSettings
from recsys.deadline import LONGEST_MS
from recsys.model.registry import ModelRegistry
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.internal_token import InternalTokenMiddleware
from recsys.web.readiness import OK, Readiness
from recsys.web.service import create_service, middleware_stack
from training.guard.guard import Guard
from training.guard.settings import GuardSettings

ADMISSION = Admission(max_concurrent=4, max_queued=4, deadline_ms=LONGEST_MS, may_wait=0.75)


def create_app() -> FastAPI:
    settings = GuardSettings()
    configure_logging("guard", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        tallies = DayTallies(settings.event_log, ReportSettings().rules)
        guard = Guard(ModelRegistry(settings.mlflow_tracking_uri), tallies, settings.rules, seconds=settings.seconds)
        watching = asyncio.create_task(guard.run())
        yield {"guard": guard}
        watching.cancel()

    async def readiness(request: Request) -> Readiness:
        state: str = request.state.guard.state
        return Readiness(ready=state == OK, dependencies={"ramp": state})

    return create_service(
        "Tandem guard",
        "Watches a promotion that ramps.",
        lifespan,
        readiness,
        middleware_stack(ADMISSION, [Middleware(InternalTokenMiddleware, settings.internal_token)], log_all=False),
    )
