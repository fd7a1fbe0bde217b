"""The main job end to end: the README's commands as written, except for free ports and little training."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recsys.model.files import METRICS_FILE
from tests.e2e.main_job import PORT_SETTINGS, READY, Running, is_free, running, settings_in
from tests.e2e.readme import BLOCKS, CURLS
from training.model_directory import LATEST_FILE

COMMAND = BLOCKS[0].split()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    assert COMMAND == ["make", "demo"]
    with running(COMMAND, settings_in(tmp_path_factory.mktemp("demo"), TRAIN_MINUTES="0.5")) as started:
        started.wait_for(READY)
        yield started


@pytest.fixture(scope="module")
def api(demo: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url("ORCHESTRATOR_PORT"), timeout=10) as client:
        yield client


def shown_users(output: str) -> list[str]:
    return [line.split("user ", 1)[1].split(",")[0] for line in output.splitlines() if "| user " in line]


def test_the_demo_prints_recommendations_for_three_users(demo: Running) -> None:
    assert len(shown_users(demo.output)) == 3
    assert demo.output.count("personalized by release 1") == 3
    assert f"http://127.0.0.1:{demo.env['ORCHESTRATOR_PORT']}/docs" in demo.output


def test_the_model_that_is_served_beats_popularity_offline(demo: Running) -> None:
    models = Path(demo.env["DATA_DIR"]) / "models" / "shop"
    metrics = json.loads((models / (models / LATEST_FILE).read_text().strip() / METRICS_FILE).read_text())
    assert metrics["ndcg_at_10"] > 1.5 * metrics["models"]["popularity"]["ndcg_at_10"] > 0


def test_the_next_recommendation_reflects_an_event(demo: Running, api: httpx.Client) -> None:
    user_id = shown_users(demo.output)[0]
    before = api.post("/v1/recommendations", json={"user_id": user_id, "top_k": 20}).json()
    consumed = before["recommendations"][0]["item_id"]
    posted = api.post("/v1/events", json=[{"user_id": user_id, "item_id": consumed, "event": "view"}])
    assert posted.json() == {"recorded": 1, "duplicates": 0}
    after = api.post("/v1/recommendations", json={"user_id": user_id, "top_k": 20}).json()
    offered = [each["item_id"] for each in after["recommendations"]]
    assert after["tier"] == "personalized"
    assert consumed not in offered
    assert offered != [each["item_id"] for each in before["recommendations"]][1:], "the order did not change"


def test_every_recommendation_has_a_title(demo: Running, api: httpx.Client) -> None:
    for user_id in [*shown_users(demo.output), "an-unknown-user"]:
        answer = api.post("/v1/recommendations", json={"user_id": user_id}).json()
        assert len(answer["recommendations"]) == 10
        assert all(each["title"] for each in answer["recommendations"])


@pytest.mark.parametrize("curl", CURLS, ids=lambda curl: curl.split("8000")[1].split()[0])
def test_each_curl_gets_what_the_readme_says(curl: str, demo: Running) -> None:
    command = curl.replace("http://127.0.0.1:8000", demo.url("ORCHESTRATOR_PORT"))
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    answer = json.loads(ended.stdout)
    assert "error" not in answer
    assert next(iter(answer.values())), answer


def test_a_second_run_reuses_everything_and_ctrl_c_stops_it(demo: Running) -> None:
    demo.interrupt()
    assert demo.finish() in (0, 2, -signal.SIGINT), demo.output  # make itself ends by the signal
    assert all(is_free(demo.env[setting]) for setting in PORT_SETTINGS)
    with running(COMMAND, demo.env) as again:
        again.wait_for(READY)
        assert "up to date" in again.output
        assert "already trained" in again.output
        assert "already evaluated" in again.output
        assert "is already version 1" in again.output
        assert "already exists" in again.output
        assert again.output.count("personalized by release 1") == 3
