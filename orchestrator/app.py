"""`uvicorn --factory orchestrator.app:create_app`"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.security import APIKeyHeader
from starlette.middleware import Middleware

from orchestrator.auth import KEY_HEADER, ApiKeyMiddleware, ApiKeys, RateLimits, cors_middleware
from orchestrator.bootstrap import open_orchestrator
from orchestrator.endpoints import orchestrator, router
from orchestrator.release_monitor import OK
from orchestrator.settings import OrchestratorSettings
from recsys.gc_tuning import tune_garbage_collection
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.service import Readiness, create_service, documented


def create_app() -> FastAPI:
    settings = OrchestratorSettings()
    configure_logging("orchestrator", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_orchestrator(settings) as opened:
            tune_garbage_collection()
            yield {"orchestrator": opened}

    async def readiness(request: Request) -> Readiness:
        dependencies = (await orchestrator(request)).release_monitor.dependencies
        return Readiness(ready=set(dependencies.values()) == {OK}, dependencies=dependencies)

    # Late is only who waited for this process itself, and the pipeline has an answer for when there is no time.
    admission = Admission(
        settings.max_concurrent, settings.max_queued, settings.deadline_ms, may_wait=0.25, answers_late=True
    )
    keys = ApiKeys.parse(settings.api_keys)
    limits = RateLimits.parse(settings.rate_limit) if settings.rate_limit else None
    gates = [Middleware(ApiKeyMiddleware, keys, limits)]
    if settings.cors_origins:
        gates.insert(0, cors_middleware(settings.cors_origins.split(",")))
    app = create_service("Tandem", "Recommendations in real time.", admission, lifespan, readiness, gates)
    # The gate has looked at the key before; this only makes the pages of the API's description ask for one.
    shown = [Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))] if keys else []
    app.include_router(router, dependencies=shown, responses=documented(401))
    return app
