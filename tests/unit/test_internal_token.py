"""The services behind the orchestrator answer only calls with the internal token, if one is set."""

from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from pydantic import SecretStr, ValidationError
from starlette.middleware import Middleware

from feature_service.settings import FeatureServiceSettings
from orchestrator.settings import OrchestratorSettings
from ranker_service.settings import RankerSettings
from recsys.internal_token import INTERNAL_TOKEN_HEADER, internal_headers
from recsys.web.internal_token import OPEN_PATHS, InternalTokenMiddleware
from training.settings import ReleaseSettings

TOKEN = "0123456789abcdef"
SERVICES = {
    FeatureServiceSettings: {"REDIS_URL": "redis://r"},
    RankerSettings: {"MLFLOW_TRACKING_URI": "http://m", "RANKER_RELEASES_DIR": "releases"},
    OrchestratorSettings: {"FEATURE_SERVICE_URL": "http://f", "RANKER_URL": "http://r", "QDRANT_EDGE_DIR": "q"},
}


def service_with(token: SecretStr | None) -> FastAPI:
    app = FastAPI(middleware=[Middleware(InternalTokenMiddleware, token)])
    for path in (*OPEN_PATHS, "/v1/rank"):
        app.get(path)(lambda: "answered")
    return app


async def call(path: str, headers: dict[str, str], token: SecretStr | None) -> Response:
    async with AsyncClient(transport=ASGITransport(service_with(token)), base_url="http://behind") as client:
        return await client.get(path, headers=headers)


async def test_the_right_token_opens() -> None:
    answer = await call("/v1/rank", internal_headers(SecretStr(TOKEN)), SecretStr(TOKEN))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/rank", "/v1/nothing", "/openapi.json", "/docs.json", "/", "//healthz", "/metrics/"]
)
@pytest.mark.parametrize("sent", [None, "", TOKEN[:-1], TOKEN + "0", TOKEN.upper()])
async def test_nothing_else_opens_anything(path: str, sent: Any) -> None:
    headers = {} if sent is None else {INTERNAL_TOKEN_HEADER: sent}
    answer = await call(path, headers, SecretStr(TOKEN))
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert INTERNAL_TOKEN_HEADER in answer.json()["detail"]
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_probes_and_prometheus_need_no_token(path: Any) -> None:
    assert (await call(path, {}, SecretStr(TOKEN))).status_code == 200


async def test_without_a_setting_every_call_is_answered() -> None:
    assert (await call("/v1/rank", {}, None)).status_code == 200
    assert internal_headers(None) == {}


async def test_a_call_is_refused_before_its_body_is_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/rank", "headers": []}
    await InternalTokenMiddleware(service_with(None), SecretStr(TOKEN))(scope, receive, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize("settings", SERVICES, ids=lambda settings: settings.__name__)
@pytest.mark.parametrize("token", [TOKEN[:-1], TOKEN + " 0", TOKEN + "\n0", TOKEN + "é"])
def test_a_weak_token_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, settings: Any, token: str) -> None:
    for name, value in {**SERVICES[settings], "INTERNAL_TOKEN": token}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="16 or more printable ASCII") as caught:
        settings()
    assert TOKEN[:8] not in str(caught.value)


@pytest.mark.parametrize("settings", [*SERVICES, ReleaseSettings], ids=lambda settings: settings.__name__)
def test_every_service_and_the_jobs_read_the_token_and_never_show_it(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for name, value in {**SERVICES.get(settings, {}), "INTERNAL_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    read = settings()
    assert internal_headers(read.internal_token) == {INTERNAL_TOKEN_HEADER: TOKEN}
    assert TOKEN not in repr(read)
