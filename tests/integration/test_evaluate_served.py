"""The replay of test users through the running stack."""

import json

import httpx
import pytest

from tests import toy
from tests.conftest import Stack
from training.evaluate_served import SERVED_FILE, SERVED_PAGE, evaluate_served


def test_every_test_user_is_replayed_and_the_stores_stay_as_they_are(
    stack: Stack, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", stack.settings.orchestrator_url)
    user = next(iter(toy.USERS))
    features = f"{stack.settings.feature_service_url}/v1/users/{user}/features"
    before, popular = httpx.get(features).json(), api.get("/v1/popular").json()["recommendations"]
    assert f"for {len(toy.USERS)} users" in evaluate_served(stack.jobs)
    assert httpx.get(features).json() == before
    assert api.get("/v1/popular").json()["recommendations"] == popular
    (report,) = stack.jobs.reports_dir.glob(f"*/{SERVED_FILE}")
    compared = json.loads(report.read_text())
    assert compared["num_users"] == len(toy.USERS)
    assert compared["tiers"] == {"personalized": len(toy.USERS)}
    # 60 items: whatever was not seen is recommended sooner or later.
    assert compared["served"]["hr_at_100"] == 1.0
    assert "| NDCG@10 |" in report.with_name(SERVED_PAGE).read_text()
