"""The app of the ranker's endpoints. BentoML adds health and readiness."""

from fastapi import FastAPI

from ranker_service.endpoints import direct_routes, is_off_the_request_path, router
from recsys.adapters.local_ranker import LocalRanker
from recsys.web.admission import Admission
from recsys.web.service import add_metrics, create_api, middleware_stack


def create_app(ranker: LocalRanker, timeout_seconds: int) -> FastAPI:
    # Requests run one at a time, because computing never waits for I/O. One whose deadline passed in the queue is
    # rejected.
    admission = Admission(
        max_concurrent=1,
        max_queued=64,
        deadline_ms=timeout_seconds * 1000,
        may_wait=0.75,
        exempt=is_off_the_request_path,
    )
    app = create_api(
        "Tandem ranker",
        "Query embeddings and scores from the two-tower model.",
        middleware_stack(
            admission,
            find_route=direct_routes(ranker),
            security_headers=False,  # `ranker_service.service` adds them around BentoML's own endpoints, too
            log_all=False,
        ),
    )
    app.state.ranker = ranker
    app.include_router(router)
    add_metrics(app)
    return app
