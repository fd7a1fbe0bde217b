"""Replaying the test users through the running stack, and where the result is recorded."""

import json
from typing import Any

import httpx
import pytest

from local.evaluate_served import record
from recsys.errors import JobError
from recsys.model.release_manifest import weights_of
from tests import toy
from tests.conftest import Stack
from training.evaluation.served import SERVED_FILE, SERVED_PAGE, compare_served
from training.settings import ServedSettings

ALL = len(toy.USERS)


def popular_items(api: httpx.Client) -> list[str]:
    return [item["item_id"] for item in api.get("/v1/popular").json()["recommendations"]]


def replay(stack: Stack) -> dict[str, Any]:
    return compare_served(stack.jobs, stack.model_dir, stack.settings.orchestrator_url, ALL)


def test_every_test_user_is_replayed_and_the_stores_stay_as_they_are(stack: Stack, api: httpx.Client) -> None:
    user = next(iter(toy.USERS))
    features = f"{stack.settings.feature_service_url}/v1/users/{user}/features"
    before, popular = httpx.get(features).json(), popular_items(api)
    compared = replay(stack)
    assert httpx.get(features).json() == before
    assert popular_items(api) == popular
    (report,) = stack.jobs.reports_dir.glob(f"*/{SERVED_FILE}")
    assert json.loads(report.read_text())["num_users"] == compared["num_users"] == ALL
    # Of the catalogue's 60 items, four users have seen so many that fewer are left than the 50 that are asked for.
    assert compared["tiers"] == {"personalized": 8, "personalized, too_few_items": 4}
    # So these four find the test item in any case, and a fifth one, for whom just 50 are left.
    assert compared["served"]["hr_at_50"] >= 5 / 12
    assert "| NDCG@10 |" in report.with_name(SERVED_PAGE).read_text()


def test_what_was_measured_is_noted_in_the_run_of_the_release(stack: Stack) -> None:
    compared = replay(stack)
    assert record(stack.jobs, stack.model_dir, compared, ServedSettings()) == "recorded in the run of version 1"
    mlflow = httpx.Client(base_url=f"{stack.settings.mlflow_url}/api/2.0/mlflow/")
    version = mlflow.get("model-versions/get", params={"name": "two_tower", "version": "1"}).json()["model_version"]
    run = mlflow.get("runs/get", params={"run_id": version["run_id"]}).json()["run"]
    noted = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert noted["served_ndcg_at_10"] == pytest.approx(compared["served"]["ndcg_at_10"])
    assert noted["served_latency_p99_ms"] > 0
    files = mlflow.get("artifacts/list", params={"run_id": version["run_id"], "path": "report"}).json()["files"]
    assert {f"report/{SERVED_FILE}", f"report/{SERVED_PAGE}"} <= {file["path"] for file in files}


def test_what_cannot_be_noted_is_said(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = replay(stack)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    line = record(stack.jobs, stack.model_dir, compared, ServedSettings())
    assert "not recorded in MLflow: MLflow at http://127.0.0.1:9" in line
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "MLFLOW_TRACKING_URI is not set" in record(stack.jobs, stack.model_dir, compared, ServedSettings())


def test_another_model_than_the_one_that_serves_is_refused(stack: Stack) -> None:
    serving = weights_of(stack.model_dir)
    try:
        unserved = toy.write_model(stack.jobs, "unserved", seed=7)
        with pytest.raises(JobError, match=f"release 1 has the weights {serving} instead of {weights_of(unserved)}"):
            compare_served(stack.jobs, unserved, stack.settings.orchestrator_url, ALL)
        line = record(stack.jobs, unserved, {"served": {}, "latency_ms": {}}, ServedSettings())
        assert f"no version with the validation fit {weights_of(unserved)}" in line
    finally:
        (stack.jobs.models_dir / "latest").write_text("first")
    assert not (stack.jobs.reports_dir / "unserved").exists()
