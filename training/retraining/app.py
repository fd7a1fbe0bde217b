"""`uvicorn --factory training.retraining.app:create_app` runs the retrainer, with health, readiness and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from events.log_files import LogFiles
from recsys.deadline import LONGEST_MS
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.internal_token import InternalTokenMiddleware
from recsys.web.readiness import OK, Readiness
from recsys.web.service import create_service, middleware_stack
from training.retraining.retrainer import Retrainer
from training.retraining.schedule import Schedule
from training.retraining.state import state_file
from training.settings import JobSettings, RetrainerSettings

ADMISSION = Admission(max_concurrent=4, max_queued=4, deadline_ms=LONGEST_MS, may_wait=0.75)


class RetrainerReadiness(Readiness):
    running: bool
    """Whether a run goes on."""
    last_run: str
    """How the last one ended. A release that was refused is an outcome, and no problem."""


def create_app() -> FastAPI:
    settings, jobs = RetrainerSettings(), JobSettings()
    configure_logging("retrainer", settings.log_level)
    retrainer = Retrainer(
        Schedule(settings.retrain_every * 3600, settings.retrain_after_events),
        state_file(jobs),
        LogFiles(settings.event_log or jobs.event_log),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        task = asyncio.create_task(retrainer.run())
        try:
            yield {"retrainer": retrainer}
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def readiness(_: Request) -> Readiness:
        return RetrainerReadiness(
            ready=retrainer.problem == OK,
            dependencies={"retraining": retrainer.problem},
            running=retrainer.running,
            last_run=retrainer.last_run,
        )

    return create_service(
        "Tandem retrainer",
        "Trains a release from what users did, again and again.",
        lifespan,
        readiness,
        middleware_stack(ADMISSION, [Middleware(InternalTokenMiddleware, settings.internal_token)], log_all=False),
    )
