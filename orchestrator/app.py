"""The app of the public API. Run it with `uvicorn --factory orchestrator.app:create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.security import APIKeyHeader
from starlette.middleware import Middleware

from orchestrator.api_keys import ApiKeys
from orchestrator.auth import KEY_HEADER, ApiKeyMiddleware, RateLimits, cors_middleware
from orchestrator.bootstrap import open_orchestrator
from orchestrator.endpoints import direct_route, orchestrator, router
from orchestrator.settings import OrchestratorSettings
from recsys.gc_tuning import tune_garbage_collection
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.readiness import Readiness
from recsys.web.service import create_service, documented, middleware_stack


def create_app() -> FastAPI:
    settings = OrchestratorSettings()
    configure_logging("orchestrator", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_orchestrator(settings) as opened:
            tune_garbage_collection()
            yield {"orchestrator": opened}

    async def readiness(request: Request) -> Readiness:
        monitor = (await orchestrator(request)).release_monitor
        return Readiness(ready=monitor.can_serve, dependencies=monitor.dependencies.states)

    # Queueing time counts against the deadline; a late request still gets a fallback from the pipeline.
    admission = Admission(
        settings.max_concurrent, settings.max_queued, settings.deadline_ms, may_wait=0.25, answers_late=True
    )
    keys = ApiKeys.parse(settings.api_keys)
    limits = RateLimits.parse(settings.rate_limit) if settings.rate_limit else None
    origins = settings.cors_origins.split(",") if settings.cors_origins else []
    caller_middleware = [  # outermost first
        *([cors_middleware(origins)] if origins else []),
        Middleware(ApiKeyMiddleware, keys, limits),
    ]
    middleware = middleware_stack(admission, caller_middleware, direct_route)
    app = create_service("Tandem", "Recommendations in real time.", lifespan, readiness, middleware)
    # `ApiKeyMiddleware` checks the key and its scopes; this dependency only adds it to the OpenAPI description.
    documented_key = [Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))] if keys else []
    app.include_router(router, dependencies=documented_key, responses=documented(403))
    return app
