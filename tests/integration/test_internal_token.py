"""With an internal token, only the orchestrator and the jobs get an answer from the services behind it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.settings import LocalSettings
from recsys.internal_token import INTERNAL_TOKEN_HEADER
from tests.engines import eventually, local_settings, running

TOKEN, WRONG = "the-token-of-the-tests", "the-token-of-nobody-else"
WITH_TOKEN = {INTERNAL_TOKEN_HEADER: TOKEN}
PROBES = ("/healthz", "/readyz", "/metrics")
RANKER_PATHS = (
    "/",
    "/docs.json",
    "/schema.json",
    "/static_content/swagger-ui.css",
    "/task_status",
    "/openapi.json",
    "/v1/x",
)
"""BentoML's own pages, and ours."""
CALLS = [
    *[("ranker_url", "GET", path) for path in (*RANKER_PATHS, "/v1/releases", "/v1/releases/1/items")],
    *[("ranker_url", "POST", path) for path in ("/v1/encode", "/v1/rank", "/v1/recall")],
    *[("feature_service_url", "GET", path) for path in ("/v1/popular", "/v1/users/u/features", "/openapi.json", "/x")],
    ("feature_service_url", "POST", "/v1/events"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """The services without a release."""
    own = local_settings(tmp_path_factory.mktemp("token"))
    with running(own, "redis", "feature_service", "ranker_service", "orchestrator", INTERNAL_TOKEN=TOKEN):
        yield own


@pytest.mark.parametrize(("service", "method", "path"), CALLS)
def test_without_the_token_nothing_is_answered(guarded: LocalSettings, service: str, method: Any, path: Any) -> None:
    url = getattr(guarded, service) + path
    for headers in ({}, {INTERNAL_TOKEN_HEADER: WRONG}):
        answer = httpx.request(method, url, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert TOKEN not in answer.text
    assert httpx.request(method, url, headers=WITH_TOKEN).status_code != 401


@pytest.mark.parametrize("service", ["feature_service_url", "ranker_url"])
@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_token(guarded: LocalSettings, service: str, path: str) -> None:
    assert httpx.get(getattr(guarded, service) + path).status_code in (200, 503 if path == "/readyz" else 200)


@pytest.mark.parametrize("service", ["feature_service_url", "ranker_url"])
def test_refused_calls_are_counted_and_their_paths_are_not_kept(guarded: LocalSettings, service: str) -> None:
    url = getattr(guarded, service)
    for number in range(3):
        httpx.get(f"{url}/unheard-of-{number}")
        httpx.get(f"{url}/unheard-of-{number}", headers=WITH_TOKEN)
    metrics = httpx.get(f"{url}/metrics").text
    assert "unheard-of" not in metrics
    refused = next(line for line in metrics.splitlines() if line.startswith("tandem_internal_refused_total"))
    assert float(refused.split()[1]) >= 3


def dependencies(settings: LocalSettings) -> dict[str, str]:
    return dict(httpx.get(f"{settings.orchestrator_url}/readyz").json()["dependencies"])


def test_the_orchestrator_sends_the_token(guarded: LocalSettings) -> None:
    eventually(lambda: dependencies(guarded)["feature_service"] == "ok")
    eventually(
        lambda: "no release is loaded" in dependencies(guarded)["ranker"], details=lambda: str(dependencies(guarded))
    )


def test_an_orchestrator_with_another_token_says_so_and_still_answers(guarded: LocalSettings, tmp_path: Path) -> None:
    other = local_settings(tmp_path)
    urls = {"FEATURE_SERVICE_URL": guarded.feature_service_url, "RANKER_URL": guarded.ranker_url}
    with running(other, "orchestrator", INTERNAL_TOKEN=WRONG, **urls):
        for name in ("feature_service", "ranker"):
            eventually(lambda name=name: INTERNAL_TOKEN_HEADER in dependencies(other)[name])
        answer = httpx.post(f"{other.orchestrator_url}/v1/recommendations", json={"user_id": "u"})
        assert (answer.status_code, answer.json()["tier"]) == (200, "static")


def test_the_ranker_sends_the_token_when_it_reads_the_live_activity(guarded: LocalSettings) -> None:
    answered = 'tandem_requests_total{method="GET",route="/v1/activity",status="200"}'
    eventually(lambda: answered in httpx.get(f"{guarded.feature_service_url}/metrics").text)
