"""What users did trains the next release: from the public API to the ranker, with a retrainer that is killed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from events.log_files import LogFiles
from local.settings import LocalSettings
from recsys.contracts.event_log import LogTable
from recsys.model.registry import CHAMPION, ModelRegistry
from tests.conftest import wait_until_ready
from tests.engines import environment, eventually, local_settings, running
from training.datasets.manifest import INTERACTIONS_FILE
from training.jobs.evaluate import evaluate
from training.jobs.final_fit import final_fit
from training.jobs.prepare import prepare
from training.jobs.promote import promote
from training.jobs.register import register
from training.jobs.train import train
from training.jobs.train_second_stage import train_second_stage
from training.retraining.state import State, state_file
from training.settings import JobSettings

USERS = [f"user-{number}" for number in range(40)]
ITEMS = [f"item-{number}" for number in range(30)]
NEWCOMER = "somebody new"


def write_shop(folder: Path) -> None:
    """Everybody goes from one item to the next."""
    starts = np.random.default_rng(0).integers(0, len(ITEMS), len(USERS))
    log = [
        (user, ITEMS[(start + step) % len(ITEMS)], 1_700_000_000 + 100 * place + step)
        for place, (user, start) in enumerate(zip(USERS, starts, strict=True))
        for step in range(8)
    ]
    folder.mkdir()
    columns = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(log, schema=columns, orient="row").write_csv(folder / "interactions.csv")
    titles = [(item, f"The thing {item}") for item in ITEMS]
    pl.DataFrame(titles, schema=["item_id", "title"], orient="row").write_csv(folder / "items.csv")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """A running stack with a first release, and the environment of its jobs."""
    write_shop(tmp_path / "shop")
    settings = local_settings(tmp_path / "run", dataset="csv")
    of_jobs = {
        "DATASET": "csv",
        "DATA_SOURCE": str(tmp_path / "shop"),
        "DATA_DIR": str(tmp_path / "data"),
        "TRAIN_MINUTES": "0.05",
        "FORCE": "true",
        "OMP_NUM_THREADS": "1",
    }
    variables = environment(settings) | of_jobs
    for name in ("REDIS_URL", "MLFLOW_TRACKING_URI", "QDRANT_URL", "QDRANT_EDGE_DIR", "RANKER_URL", *of_jobs):
        monkeypatch.setenv(name, variables[name])
    names = ("redis", "mlflow", "feature_service", "collector", "ranker_service", "orchestrator")
    with running(settings, *names):
        for job in (prepare, train, train_second_stage, evaluate, final_fit, register, promote):
            job(JobSettings())
        wait_until_ready(settings)
        yield settings, variables


def test_events_train_the_next_release(shop: tuple[LocalSettings, dict[str, str]]) -> None:
    settings, variables = shop
    sent = [
        {"user_id": user, "item_id": ITEMS[place], "event": "view"}
        for user in (NEWCOMER, USERS[0])
        for place in (3, 4, 5, 6)
    ]
    jobs, files = JobSettings(), LogFiles(str(settings.event_log))
    with running(settings, "retrainer", RETRAIN_AFTER_EVENTS=str(len(sent)), **variables) as engines:
        retrainer = engines["retrainer"]
        eventually(state_file(jobs).exists, "the retrainer did not begin to wait for events")
        retrainer.kill()
        httpx.post(f"{settings.orchestrator_url}/v1/events", json=sent, timeout=30).raise_for_status()
        eventually(lambda: rows_of(files) == len(sent), "the collector did not store all")
        retrainer.start()
        retrainer.wait_until_it_says("step 2 of 9")
        retrainer.kill()
        interrupted = State.read(state_file(jobs)).run
        assert interrupted is not None
        assert interrupted.start_from == 1
        retrainer.start()
        for line in ("continuing the run", "starting from version 1", "retrain: promoted"):
            retrainer.wait_until_it_says(line)
        eventually(lambda: "promoted by promote" in httpx.get(f"{settings.retrainer_url}/readyz").text)

    registry = ModelRegistry(settings.mlflow_url)
    assert [each.version for each in registry.versions()] == [2, 1]
    assert registry.aliases()[CHAMPION] == 2
    manifest, first = registry.manifest_of(2), registry.manifest_of(1)
    assert manifest.events_until == interrupted.events_until.isoformat()
    assert manifest.started_from is not None
    assert (manifest.started_from.version, manifest.started_from.weights) == (1, first.validation_fit)
    log = pl.read_parquet(jobs.processed_dir / INTERACTIONS_FILE)
    seen = log.filter(pl.col("user_id") == NEWCOMER)["item_id"].to_list()
    assert sorted(seen) == sorted(ITEMS[place] for place in (3, 4, 5, 6))
    assert len(log) == 8 * len(USERS) + len(sent)
    assert serving(settings)["champion"] == 2
    answer = httpx.post(
        f"{settings.orchestrator_url}/v1/recommendations", json={"user_id": NEWCOMER, "top_k": 5}, timeout=30
    )
    assert answer.raise_for_status().json()["release"] == 2


def rows_of(files: LogFiles) -> int:
    return int(files.read_before(LogTable.EVENTS, datetime.now(UTC)).select(pl.len()).collect().item())


def serving(settings: LocalSettings) -> Any:
    """What the ranker serves once it has seen the new champion."""
    url = f"{settings.ranker_url}/v1/releases"
    eventually(lambda: json.loads(httpx.get(url, timeout=10).text)["champion"] == 2, "version 2 does not serve")
    return httpx.get(url, timeout=10).json()
