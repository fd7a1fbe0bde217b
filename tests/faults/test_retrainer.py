"""A release learns from every event that was collected, while the retrainer is killed again and again.

It takes the log that `test_events.py` leaves behind, and only at the full size, with FAULT_EVENTS: at the small one,
`tests/integration/test_retrain.py` shows it.
"""

import os
import time
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from recsys.model.registry import CHAMPION, ModelRegistry
from tests.engines import local_settings, running
from tests.faults.rig import Rig
from tests.faults.test_events import in_files
from training.datasets.manifest import INTERACTIONS_FILE
from training.retraining.state import State, state_file
from training.settings import JobSettings

KILLED_AT = range(1, 10)
"""Steps."""


@pytest.mark.skipif("FAULT_EVENTS" not in os.environ, reason="the full size takes minutes: set FAULT_EVENTS")
@pytest.mark.timeout(3600)
def test_a_release_has_learned_from_every_collected_event(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = in_files(rig)
    assert collected, "run test_events.py in the same session"
    write_log(tmp_path / "shop")
    settings = local_settings(tmp_path / "run", dataset="csv", event_log=rig.settings.event_log)
    variables = {"DATASET": "csv", "DATA_SOURCE": str(tmp_path / "shop"), "DATA_DIR": str(tmp_path / "data")}
    variables |= {"TRAIN_MINUTES": "0.05", "FORCE": "true", "NO_RANKER": "true", "RETRAIN_AFTER_EVENTS": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file = state_file(JobSettings())
    State(waiting_since=0).write(file)
    with running(settings, "redis", "mlflow"), running(settings, "retrainer", **variables) as engines:
        retrainer = engines["retrainer"]
        for step in KILLED_AT:
            retrainer.wait_until_it_says(f"step {step} of 9")
            retrainer.kill()
            retrainer.start()
        while (ended := State.read(file).last) is None:
            assert retrainer.runs
            time.sleep(0.2)
        registry = ModelRegistry(settings.mlflow_url)
        assert [each.version for each in registry.versions()] == [1]
        until = registry.manifest_of(registry.aliases()[CHAMPION]).events_until
    assert until == ended.events_until.isoformat()
    learned = pl.read_parquet(JobSettings().processed_dir / INTERACTIONS_FILE)
    of_writers = learned.filter(pl.col("user_id").str.starts_with("writer-"))
    assert sorted(of_writers["item_id"]) == sorted(f"i-{event_id[2:]}" for event_id in collected)
    assert of_writers["timestamp"].max() <= datetime.fromisoformat(until).timestamp()  # type: ignore[operator]
    print(f"\na release has learned from {len(of_writers):,} events; the retrainer was killed {len(KILLED_AT)} times")


def write_log(folder: Path) -> None:
    """A shop without descriptions of its items, so that every event counts."""
    folder.mkdir()
    rows = [
        (f"user-{user}", f"item-{(user + step) % 20}", 1_700_000_000 + step) for user in range(30) for step in range(6)
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_csv(folder / "interactions.csv")
