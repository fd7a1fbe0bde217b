"""`uvicorn --factory orchestrator.app:create_app`"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from orchestrator.bootstrap import open_orchestrator
from orchestrator.endpoints import orchestrator, router
from orchestrator.settings import OrchestratorSettings
from recsys.adapters.fastapi_service import Readiness, create_service
from recsys.observability import configure_logging


def create_app() -> FastAPI:
    settings = OrchestratorSettings()
    configure_logging("orchestrator", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_orchestrator(settings) as opened:
            yield {"orchestrator": opened}

    async def readiness(request: Request) -> Readiness:
        problems = orchestrator(request).lookout.problems
        dependencies = {name: problems.get(name, "ok") for name in ("ranker", "feature_service")}
        return Readiness(ready=not problems, dependencies=dependencies)

    app = create_service("Tandem", "Recommendations in real time.", lifespan, readiness)
    app.include_router(router)
    return app
