"""`uvicorn --factory feature_service.app:create_app`"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from feature_service.bootstrap import open_stores
from feature_service.endpoints import direct_route, router
from feature_service.settings import FeatureServiceSettings
from recsys.adapters.redis_client import MAX_CONNECTIONS
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.deadline import LONGEST_MS
from recsys.errors import UpstreamError
from recsys.gc_tuning import tune_garbage_collection
from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.internal_token import InternalTokenMiddleware
from recsys.web.readiness import OK, Readiness
from recsys.web.service import create_service, middleware_stack

ADMISSION = Admission(max_concurrent=MAX_CONNECTIONS, max_queued=MAX_CONNECTIONS, deadline_ms=LONGEST_MS, may_wait=0.75)
"""One request at a time per Redis connection."""


async def _warm_up(store: RedisFeatureStore) -> None:
    """Spare the first requests what is done only once, like connecting. Without Redis they have to do it."""
    with suppress(UpstreamError):
        await store.user_features("nobody")
        await store.popular(top_k=1)


def create_app() -> FastAPI:
    settings = FeatureServiceSettings()
    configure_logging("feature_service", settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_stores(settings) as stores:
            await _warm_up(stores.features)
            tune_garbage_collection()
            yield {
                "feature_store": stores.features,
                "event_log": stores.event_log,
                "item_activity": stores.item_activity,
                "release_reports": stores.reports,
            }

    async def readiness(request: Request) -> Readiness:
        """Without Redis it can serve nothing."""
        try:
            await request.state.feature_store.ping()
        except UpstreamError as error:
            return Readiness(ready=False, dependencies={"redis": str(error)})
        return Readiness(ready=True, dependencies={"redis": OK})

    app = create_service(
        "Tandem feature service",
        "User histories, trending items and the event log, in Redis.",
        lifespan,
        readiness,
        middleware_stack(
            ADMISSION, [Middleware(InternalTokenMiddleware, settings.internal_token)], direct_route, log_all=False
        ),
    )
    app.include_router(router)
    return app
