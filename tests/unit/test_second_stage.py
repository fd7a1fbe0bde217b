"""Fitting the second stage: what it may learn from, and when it is left out."""

import time
from pathlib import Path

import numpy as np
import pytest

from recsys.model.release import SECOND_STAGE_FILES
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, write_processed
from training.jobs.train import train
from training.models import second_stage
from training.models.recipe import Recipe
from training.models.second_stage import Labelled, cross_validate

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
    return Labelled(features, labels, np.array(ranks), num_users)


def test_trees_are_judged_by_users_they_have_not_seen() -> None:
    soon = time.monotonic() + 60
    learnt = cross_validate(labelled(400, informative=True), ["told", "noise"], 1, soon)
    guessed = cross_validate(labelled(400, informative=False), ["told", "noise"], 1, soon)
    chance = np.mean(1 / np.log2(1 + np.arange(1, 11)))
    assert learnt.gains.mean() > 0.85
    # Trees that had seen the labels they are judged by would remember them.
    assert abs(guessed.gains.mean() - chance) < 0.03


def test_growing_ends_when_time_is_up() -> None:
    validated = cross_validate(labelled(100, informative=True), ["told", "noise"], 1, time.monotonic())
    assert validated.num_trees == second_stage.ROUNDS_PER_LOOK


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
    assert reason in train(settings, SMALL)
    directory = settings.models_dir / (settings.models_dir / "latest").read_text().strip()
    assert not {path.name for path in directory.iterdir()} & set(SECOND_STAGE_FILES)


def test_test_items_have_no_influence(tmp_path: Path) -> None:
    """Two logs that differ in the test items alone make the same second stage, byte for byte."""
    made = []
    sequences = cyclic_sequences(num_users=250, num_items=50, length=12)
    for name, last in (("one", lambda items: items[-1]), ("other", lambda items: items[0])):
        settings = job_settings(tmp_path / name, train_minutes=1.0)
        write_processed(settings, {user: [*items[:-1], last(items)] for user, items in sequences.items()})
        train(settings, SMALL)
        directory = settings.models_dir / (settings.models_dir / "latest").read_text().strip()
        made.append([(directory / file).read_bytes() for file in SECOND_STAGE_FILES])
    assert made[0] == made[1]
