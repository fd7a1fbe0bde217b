"""Fitting the second stage: what it may learn from, and when it is left out."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys.errors import JobError
from recsys.model.files import ITEMS_FILE, WEIGHTS_FILE
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.ranking_tables import RankingTables
from recsys.model.release_manifest import SECOND_STAGE_FILES
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, train_model, write_processed
from training.datasets.manifest import CATALOGUE_FILE, MANIFEST_FILE
from training.jobs.evaluate import evaluate
from training.jobs.train import train
from training.jobs.train_second_stage import SECOND_STAGE_RECORD, train_second_stage
from training.model_directory import latest_model
from training.models import second_stage
from training.models.ranking_tables import ranking_tables
from training.models.ranking_trees import ROUNDS_PER_LOOK, CrossValidation, Labelled, RankingTrees
from training.models.recipe import Recipe
from training.release_manifest import describe_release
from training.settings import JobSettings

SMALL = Recipe(embedding_dim=32, max_history=20, steps_per_round=20, max_epochs=2, warmup_steps=10)


def labelled(num_users: int, informative: bool) -> Labelled:
    """Ten candidates each, in a random order; one feature says which came next, or is noise like the other."""
    random = np.random.default_rng(0)
    features, labels, ranks = [], [], []
    for _ in range(num_users):
        label = np.zeros(10, dtype=np.int8)
        label[random.integers(10)] = 1
        noise = random.normal(size=(10, 2)).astype(np.float32)
        if informative:
            noise[:, 0] += 3 * label
        features.append(noise)
        labels.append(label)
        ranks.append(float(label.argmax() + 1))
    return Labelled(features, labels, np.array(ranks), np.arange(num_users), np.arange(num_users), num_users)


def cross_validated(examples: Labelled, until: float) -> CrossValidation:
    return RankingTrees(examples, ["signal", "noise"], seed=1).cross_validate(until)


def test_trees_are_judged_by_users_they_have_not_seen() -> None:
    soon = time.monotonic() + 60
    learnt = cross_validated(labelled(400, informative=True), soon)
    guessed = cross_validated(labelled(400, informative=False), soon)
    chance = np.mean(1 / np.log2(1 + np.arange(1, 11)))
    assert learnt.gains.mean() > 0.85
    # Trees that had seen the labels they are judged by would remember them.
    assert abs(guessed.gains.mean() - chance) < 0.03


def test_growing_ends_when_time_is_up() -> None:
    validated = cross_validated(labelled(100, informative=True), time.monotonic())
    assert validated.num_trees == ROUNDS_PER_LOOK


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [("MIN_USERS", 1000, "too few"), ("_helps", lambda *_: False, "does not help")],
)
def test_without_an_honest_lift_there_is_no_second_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: object, reason: str
) -> None:
    monkeypatch.setattr(second_stage, setting, value)
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, cyclic_sequences(num_users=250, num_items=50, length=12))
    assert reason in train_model(settings, SMALL)
    directory = settings.models_dir / (settings.models_dir / "latest").read_text().strip()
    assert not {path.name for path in directory.iterdir()} & set(SECOND_STAGE_FILES)


def test_tables_that_take_long_leave_time_for_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, cyclic_sequences(num_users=250, num_items=50, length=12))
    train(settings, SMALL)
    spent = 0.0

    def slow_tables(*arguments: Any) -> RankingTables:
        nonlocal spent
        spent = second_stage.FEATURES_SHARE * settings.second_stage_seconds
        return ranking_tables(*arguments)

    monkeypatch.setattr(second_stage, "ranking_tables", slow_tables)
    monkeypatch.setattr(second_stage, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + spent))
    assert "too few" not in train_second_stage(settings)


def test_test_items_have_no_influence(tmp_path: Path) -> None:
    """Two logs that differ in the test items alone make the same second stage, byte for byte."""
    made = []
    sequences = cyclic_sequences(num_users=250, num_items=50, length=12)
    for name, last in (("one", lambda items: items[-1]), ("other", lambda items: items[0])):
        settings = job_settings(tmp_path / name, train_minutes=1.0)
        write_processed(settings, {user: [*items[:-1], last(items)] for user, items in sequences.items()})
        train_model(settings, SMALL)
        directory = settings.models_dir / (settings.models_dir / "latest").read_text().strip()
        made.append([(directory / file).read_bytes() for file in SECOND_STAGE_FILES])
    assert made[0] == made[1]


def trained_towers(settings: JobSettings) -> dict[str, int]:
    """Directory name of all towers -> when their weights were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in settings.models_dir.glob(f"towers-*/{WEIGHTS_FILE}")}


def second_stages(settings: JobSettings) -> dict[str, int]:
    """Directory name of all second stages -> when their records were written."""
    found = settings.models_dir.glob(f"second_stage-*/{SECOND_STAGE_RECORD}")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def change_catalogue(settings: JobSettings, **columns: pl.Expr) -> None:
    """Rewrite items.parquet with these columns, and the manifest as `make data` would."""
    path = settings.processed_dir / CATALOGUE_FILE
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)
    (settings.processed_dir / MANIFEST_FILE).write_text('{"content_hash": "other"}')


@pytest.fixture
def trained(tmp_path: Path) -> JobSettings:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, cyclic_sequences(num_users=250, num_items=50, length=12))
    train_model(settings, SMALL)
    return settings


def test_the_same_again_trains_nothing(trained: JobSettings) -> None:
    before = trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)
    assert "nothing to do" in train(trained, SMALL)
    assert "nothing to do" in train_second_stage(trained)
    assert (trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)) == before


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.models.second_stage.PARAMETERS", {**second_stage.PARAMETERS, "num_leaves": 7}),
        ("training.models.second_stage.FEATURE_NAMES", ["another_feature", *FEATURE_NAMES[1:]]),
        ("training.models.ranking_tables.MAX_NEIGHBOURS", 100),
        ("training.fingerprints.SECOND_STAGE_VERSION", 0),
    ],
    ids=["a parameter", "a feature", "a setting of the tables", "the code"],
)
def test_a_changed_second_stage_is_trained_alone(
    trained: JobSettings, monkeypatch: pytest.MonkeyPatch, setting: str, value: object
) -> None:
    towers, before, model = trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)
    monkeypatch.setattr(setting, value)
    assert "nothing to do" in train(trained, SMALL)
    assert "nothing to do" not in train_second_stage(trained)
    assert trained_towers(trained) == towers
    assert len(second_stages(trained)) == len(before) + 1
    changed = latest_model(trained.models_dir)
    assert changed != model
    assert (changed / WEIGHTS_FILE).read_bytes() == (model / WEIGHTS_FILE).read_bytes()

    monkeypatch.undo()
    assert "nothing to do" in train_second_stage(trained)
    assert latest_model(trained.models_dir) == model


def test_evaluation_and_registration_notice_another_second_stage(
    trained: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(trained)
    monkeypatch.setattr("training.fingerprints.SECOND_STAGE_VERSION", 0)
    train_second_stage(trained)
    assert "already evaluated" not in evaluate(trained)
    model = latest_model(trained.models_dir)
    assert describe_release(model).fingerprint == model.name


def test_what_towers_do_not_learn_from_retrains_only_the_second_stage(trained: JobSettings) -> None:
    """The years 1990 and 1991 are one content feature, and two values of the second stage's tables."""
    change_catalogue(trained, year=pl.lit(1990, pl.Int32))
    train_model(trained, SMALL)
    towers, stages = trained_towers(trained), second_stages(trained)
    change_catalogue(trained, year=pl.lit(1991, pl.Int32))
    train_model(trained, SMALL)
    assert trained_towers(trained) == towers
    assert len(second_stages(trained)) == len(stages) + 1


def test_an_extra_display_column_changes_nothing(trained: JobSettings) -> None:
    before = trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)
    evaluate(trained)
    change_catalogue(trained, picture=pl.format("https://example.com/{}.jpg", "item_id"))
    assert "nothing to do" in train(trained, SMALL)
    assert "nothing to do" in train_second_stage(trained)
    assert "already evaluated" in evaluate(trained)
    assert (trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)) == before


def test_a_displayed_value_makes_a_new_release_without_training(trained: JobSettings) -> None:
    """A word of one title only is no content feature."""
    towers, stages, model = trained_towers(trained), second_stages(trained), latest_model(trained.models_dir)
    change_catalogue(
        trained, title=pl.when(pl.col("item_id") == "i007").then(pl.lit("Thing renamed")).otherwise("title")
    )
    train_model(trained, SMALL)
    evaluate(trained)
    assert (trained_towers(trained), second_stages(trained)) == (towers, stages)
    renamed = latest_model(trained.models_dir)
    assert renamed != model
    assert "Thing renamed" in (renamed / ITEMS_FILE).read_text()
    assert "Thing renamed" not in (model / ITEMS_FILE).read_text()


def test_a_changed_log_retrains_both(trained: JobSettings) -> None:
    towers, stages = trained_towers(trained), second_stages(trained)
    write_processed(trained, cyclic_sequences(num_users=251, num_items=50, length=12))
    with pytest.raises(JobError, match="other data"):
        train_second_stage(trained)
    train_model(trained, SMALL)
    assert (len(trained_towers(trained)), len(second_stages(trained))) == (len(towers) + 1, len(stages) + 1)


def test_without_towers_it_says_what_to_run(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    write_processed(settings, cyclic_sequences(num_users=10, num_items=10, length=5))
    with pytest.raises(JobError, match="make train"):
        train_second_stage(settings)
