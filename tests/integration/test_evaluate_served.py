"""Replaying the test users through the running stack."""

import json

import httpx
import pytest

from recsys.errors import JobError
from recsys.model.release_manifest import weights_of
from tests import toy
from tests.conftest import Stack
from training.jobs.evaluate_served import SERVED_FILE, SERVED_PAGE, evaluate_served


def popular_items(api: httpx.Client) -> list[str]:
    return [item["item_id"] for item in api.get("/v1/popular").json()["recommendations"]]


def test_every_test_user_is_replayed_and_the_stores_stay_as_they_are(
    stack: Stack, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", stack.settings.orchestrator_url)
    user = next(iter(toy.USERS))
    features = f"{stack.settings.feature_service_url}/v1/users/{user}/features"
    before, popular = httpx.get(features).json(), popular_items(api)
    assert f"for {len(toy.USERS)} users" in evaluate_served(stack.jobs)
    assert httpx.get(features).json() == before
    assert popular_items(api) == popular
    (report,) = stack.jobs.reports_dir.glob(f"*/{SERVED_FILE}")
    compared = json.loads(report.read_text())
    assert compared["num_users"] == len(toy.USERS)
    # Of the catalogue's 60 items, four users have seen so many that fewer are left than the 50 that are asked for.
    assert compared["tiers"] == {"personalized": 8, "personalized, too_few_items": 4}
    # So these four find the test item in any case, and a fifth one, for whom just 50 are left.
    assert compared["served"]["hr_at_50"] >= 5 / 12
    assert "| NDCG@10 |" in report.with_name(SERVED_PAGE).read_text()


def test_what_was_measured_is_noted_in_the_run_of_the_release(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", stack.settings.orchestrator_url)
    assert "recorded in the run of version 1" in evaluate_served(stack.jobs)
    mlflow = httpx.Client(base_url=f"{stack.settings.mlflow_url}/api/2.0/mlflow/")
    version = mlflow.get("model-versions/get", params={"name": "two_tower", "version": "1"}).json()["model_version"]
    run = mlflow.get("runs/get", params={"run_id": version["run_id"]}).json()["run"]
    noted = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    compared = json.loads((stack.jobs.reports_dir / "first" / SERVED_FILE).read_text())
    assert noted["served_ndcg_at_10"] == pytest.approx(compared["served"]["ndcg_at_10"])
    assert noted["served_latency_p99_ms"] > 0
    files = mlflow.get("artifacts/list", params={"run_id": version["run_id"], "path": "report"}).json()["files"]
    assert {f"report/{SERVED_FILE}", f"report/{SERVED_PAGE}"} <= {file["path"] for file in files}


def test_without_mlflow_the_replay_is_none_the_worse(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", stack.settings.orchestrator_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    line = evaluate_served(stack.jobs)
    assert "served NDCG@10" in line
    assert "not recorded in MLflow: MLflow at http://127.0.0.1:9" in line
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "MLFLOW_TRACKING_URI is not set" in evaluate_served(stack.jobs)


def test_another_model_than_the_one_that_serves_is_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", stack.settings.orchestrator_url)
    serving = weights_of(stack.model_dir)
    try:
        waiting = weights_of(toy.write_model(stack.jobs, "unserved", seed=7))
        with pytest.raises(JobError, match=f"release 1 has the weights {serving}.*{waiting}"):
            evaluate_served(stack.jobs)
    finally:
        (stack.jobs.models_dir / "latest").write_text("first")
    assert not (stack.jobs.reports_dir / "unserved").exists()
