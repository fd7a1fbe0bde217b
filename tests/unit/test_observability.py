"""Metrics, logs and error responses stay small, whatever callers send."""

from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from prometheus_client import REGISTRY

from recsys.observability import METHODS
from recsys.web.admission import Admission
from recsys.web.service import create_api, middleware_stack

LONGEST_ERROR = 500


@pytest.fixture
def api() -> FastAPI:
    app = create_api("observed", "", middleware_stack(Admission(1, 1, 1000.0, may_wait=0.25)))

    @app.get("/v1/things/{name}")
    async def thing(name: str) -> str:
        return name

    return app


def client_of(app: FastAPI) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://observed")


def label_values(label: str) -> set[str]:
    """All values of a label in the metrics of requests."""
    return {
        sample.labels[label]
        for metric in REGISTRY.collect()
        if metric.name.startswith("tandem_request")
        for sample in metric.samples
        if label in sample.labels
    }


async def test_the_metrics_do_not_grow_with_paths_and_methods(api: FastAPI) -> None:
    async with client_of(api) as client:
        for number in range(20):
            await client.request(f"METHOD{number}", f"/v1/things/thing-{number}")
            await client.get(f"/v1/things/thing-{number}")
            await client.get(f"/nothing-{number}")
    assert label_values("method") <= {*METHODS, "other"}
    assert not {route for route in label_values("route") if "-" in route}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/" + "x" * 60_000), ("POST", "/v1/things/" + "x" * 60_000), ("X" * 60_000, "/v1/things/a")],
)
async def test_an_error_does_not_repeat_a_long_request(api: FastAPI, method: str, path: str) -> None:
    async with client_of(api) as client:
        answer = await client.request(method, path)
    body: dict[str, Any] = answer.json()
    assert answer.status_code in (404, 405)
    assert len(body["detail"]) < LONGEST_ERROR


async def test_a_log_line_does_not_repeat_a_long_method(api: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    async with client_of(api) as client:
        await client.request("X" * 60_000, "/v1/things/a")
    assert "X" * 100 not in capsys.readouterr().out
