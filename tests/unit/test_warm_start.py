"""Training that starts from a release: what is kept, what is new, and when it starts from nothing instead."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.errors import ReleaseNotLoaded
from recsys.model.files import ITEMS_FILE, METRICS_FILE, TRAINING_FILE
from recsys.model.registry import CHAMPION
from recsys.model.release_manifest import RELEASE_FILE, ReleaseManifest
from recsys.model.two_tower import TwoTower, TwoTowerConfig
from recsys.model.vocabulary import Vocabulary
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings
from tests.unit.sequence_fixtures import write_log as write_processed_log
from training.datasets.manifest import EVENTS_UNTIL, MANIFEST_FILE
from training.jobs.train import train
from training.model_directory import latest_towers
from training.models.recipe import Recipe
from training.models.warm_start import StartingTowers, start_from
from training.release_manifest import describe_release
from training.settings import JobSettings

RECIPE = Recipe(embedding_dim=16, max_history=10, steps_per_round=20, max_epochs=12, warmup_steps=10)


class FolderRegistry:
    """The part of the registry that a start needs, on folders with the files of releases."""

    def __init__(self) -> None:
        self.folders = {}
        self.champion = None

    def aliases(self) -> dict[str, int]:
        return {} if self.champion is None else {CHAMPION: self.champion}

    def manifest_of(self, version: int) -> ReleaseManifest:
        if version not in self.folders:
            raise ReleaseNotLoaded(f"no version {version}")
        return ReleaseManifest.read(self.folders[version])

    def fetch_validation_fit(self, version: int, destination: Path) -> None:
        shutil.copytree(self.folders[version], destination, dirs_exist_ok=True)

    def promote(self, version: int, settings: JobSettings) -> None:
        """The latest towers become this version and the champion."""
        directory = settings.data_dir / f"v{version}"
        shutil.copytree(latest_towers(settings.models_dir), directory)
        (directory / ITEMS_FILE).touch()
        (directory / METRICS_FILE).write_text(json.dumps({"ndcg_at_10": 0.5}))
        describe_release(directory)
        self.folders[version], self.champion = directory, version


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FolderRegistry:
    found = FolderRegistry()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr("recsys.model.registry.ModelRegistry", lambda _: found)
    monkeypatch.setenv("START_FROM", CHAMPION)
    return found


def write_log(settings: JobSettings, length: int, until: str | None = None) -> None:
    """Everybody's first `length` items of a circle of 30, collected until then."""
    items_of = cyclic_sequences(num_users=100, num_items=30, length=length)
    log = {
        user: [(item, start + 20 * time) for time, item in enumerate(items)]
        for start, (user, items) in enumerate(items_of.items())
    }
    write_processed_log(settings, log)
    source = {} if until is None else {EVENTS_UNTIL: until}
    (settings.processed_dir / MANIFEST_FILE).write_text(json.dumps({"content_hash": "c0ffee", "source": source}))


def trained_from(settings: JobSettings) -> Any:
    record = json.loads((latest_towers(settings.models_dir) / TRAINING_FILE).read_text())
    return record["started_from"] and record["started_from"]["version"]


# --- the weights ------------------------------------------------------------------------------------------------------


def test_known_items_keep_their_vectors_whatever_their_content_and_new_ones_start_from_theirs() -> None:
    random = np.random.default_rng(0)
    old_ids, ids = [f"i{item}" for item in range(40)], ["new red", *(f"i{item}" for item in range(39, 4, -1)), "alone"]
    of_old, of_new = (random.integers(0, 2, (len(each) + 1, width)) for each, width in ((old_ids, 4), (ids, 5)))
    of_old[0], of_new[0], of_new[-1] = 0, 0, 0
    place = {item_id: row for row, item_id in enumerate(old_ids, start=1)}
    for row, item_id in enumerate(ids, start=1):
        if item_id in place:  # the same four features in another order; the fifth one is new
            of_new[row, [3, 1, 0, 2]] = of_old[place[item_id]]
    of_new[1] = [0, 0, 1, 0, 0]
    torch.manual_seed(1)
    old = TwoTower(TwoTowerConfig(num_items=40, num_content_features=4, embedding_dim=8, max_history=5))
    old.content.copy_(torch.from_numpy(of_old))
    torch.nn.init.normal_(old.item_bias.weight)
    torch.nn.init.normal_(old.content_projection)
    model = TwoTower(TwoTowerConfig(num_items=37, num_content_features=5, embedding_dim=8, max_history=5))
    counts = np.array([0, 3, *([5] * 34), 0, 9])
    start_from(model, StartingTowers(old, Vocabulary(old_ids)), Vocabulary(ids), of_new.astype(np.uint8), counts, 1)

    known = torch.tensor([place[item_id] for item_id in ids[1:-1]])
    rows = torch.arange(2, 37)
    with torch.no_grad():
        torch.testing.assert_close(model.item_vectors(rows), old.item_vectors(known), atol=1e-5, rtol=1e-4)
        trained = rows[:-1]  # the last known item lost its interactions, and has the bias of such items
        torch.testing.assert_close(model.item_bias(trained), old.item_bias(known[:-1]))
        red = torch.nn.functional.normalize(old.content_projection[3], dim=0)
        assert float(model.item_vectors(torch.tensor([1]))[0] @ red) > 0.9
        assert float(model.item_vectors(torch.tensor([37])).norm()) == pytest.approx(1)
        assert float(model.item_vectors(torch.tensor([0])).norm()) == 0
        history = torch.tensor([[4, 9, 2]])
        asked = old.eval().encode(known[history - 2], torch.tensor([3]))
        torch.testing.assert_close(model.eval().encode(history, torch.tensor([3]))[:, :-1], asked[:, :-1])


# --- the job ----------------------------------------------------------------------------------------------------------


def test_a_warm_start_continues_from_the_champion_in_a_third_of_the_epochs(
    tmp_path: Path, registry: FolderRegistry
) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_log(settings, 8, "2026-11-01T00:00:00+00:00")
    train(settings, RECIPE)
    assert trained_from(settings) is None
    registry.promote(1, settings)
    cold = json.loads((latest_towers(settings.models_dir) / TRAINING_FILE).read_text())

    write_log(settings, 9, "2026-11-02T00:00:00+00:00")
    train(settings, RECIPE)
    assert trained_from(settings) == 1
    record = json.loads((latest_towers(settings.models_dir) / TRAINING_FILE).read_text())
    assert record["epochs"] <= RECIPE.max_epochs / 3 + 0.1
    assert record["history"][0]["validation_ndcg_at_10"] > cold["history"][0]["validation_ndcg_at_10"]
    registry.promote(2, settings)
    manifest = registry.manifest_of(2)
    assert manifest.started_from is not None
    assert manifest.started_from.weights == registry.manifest_of(1).weights_hash

    # Repeated after the promotion, it is the same training, and not one more on top of it.
    assert "nothing to do" in train(settings, RECIPE)
    assert trained_from(settings) == 1


def test_without_a_release_to_start_from_it_says_why_and_starts_from_nothing(
    tmp_path: Path, registry: FolderRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    tiny = RECIPE.model_copy(update={"max_epochs": 1})

    def reason_of(recipe: Recipe = tiny, **values: Any) -> str:
        train(settings.model_copy(update=values), recipe)
        assert trained_from(settings.model_copy(update=values)) is None
        return capsys.readouterr().out

    write_log(settings, 8, "2026-11-02T00:00:00+00:00")
    assert "there is no champion yet" in reason_of()
    registry.promote(1, settings)
    assert "cold start, because version 1 is a cold start on the same data" in reason_of()
    write_log(settings, 9, "2026-11-03T00:00:00+00:00")
    assert "another architecture" in reason_of(tiny.model_copy(update={"num_layers": 1}))
    assert "SPLIT=temporal is for measuring" in reason_of(split="temporal")
    write_log(settings, 9, "2026-11-01T23:00:00+00:00")
    assert "it may have seen what is held out" in reason_of()
    release = registry.folders[1] / RELEASE_FILE
    manifest = json.loads(release.read_text())
    release.write_text(json.dumps({**manifest, "dataset": "another"}))
    write_log(settings, 10, "2026-11-04T00:00:00+00:00")
    assert "version 1 is of DATASET=another" in reason_of()
    release.write_text(json.dumps({**manifest, "feature_schema_version": 1}))
    assert "feature schema 1" in reason_of()
    monkeypatch.setenv("START_FROM", "7")
    with pytest.raises(ReleaseNotLoaded, match="7"):
        train(settings, tiny)
    assert list(settings.models_dir.glob("towers-*.partial")) == []
