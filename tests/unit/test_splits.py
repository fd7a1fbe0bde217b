"""The temporal split: checked by hand on a small log, and training knows nothing of what came later."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from recsys.errors import DataError, JobError
from recsys.model.files import ITEMS_FILE, METRICS_FILE, TRAINING_FILE, WEIGHTS_FILE
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, train_model, write_log, write_processed
from training.datasets.catalogue import read_catalogue
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import Sequences, TrainBatches, load_sequences
from training.evaluation.slices import slices_of
from training.fingerprints import towers_fingerprint
from training.indexing.build import newest_version
from training.jobs.evaluate import evaluate
from training.jobs.final_fit import final_fit
from training.jobs.register import register
from training.model_directory import latest_model
from training.models.activity_log import ActivityLog
from training.models.cooccurrence import directed_cooccurrence
from training.models.ease import ease_weights
from training.models.ranking_tables import ranking_tables
from training.models.recipe import Recipe
from training.settings import JobSettings

SMALL = Recipe(embedding_dim=16, max_history=20, steps_per_round=10, max_epochs=4, warmup_steps=5)

# 20 interactions: the cuts leave 16 before validation, and 2 between there and the test.
LOG = {
    "ann": [("a", 10), ("b", 20), ("c", 30), ("a", 40), ("late", 200), ("d", 300)],
    "bob": [("b", 11), ("c", 21), ("a", 31), ("b", 41), ("c", 50), ("d", 201)],
    "cy": [("c", 12), ("a", 22), ("b", 32), ("d", 42), ("a", 51), ("b", 52), ("c", 53)],
    "di": [("later", 301)],
}


def write(tmp_path: Path, log: dict[str, list[tuple[str, int]]], **values: object) -> JobSettings:
    settings = job_settings(tmp_path, split="temporal", **values)
    write_log(settings, log)
    return settings


def load(settings: JobSettings) -> Sequences:
    return load_sequences(settings.processed_dir, settings.models_dir, settings.split)


def names(sequences: Sequences, items: np.ndarray) -> list[str]:
    return [sequences.vocabulary.item_id(int(index)) for index in items]


def example(sequences: Sequences, found: tuple[np.ndarray, int]) -> tuple[list[str], str]:
    return names(sequences, found[0]), sequences.vocabulary.item_id(found[1])


def test_one_cut_for_everybody_divides_a_hand_made_log(tmp_path: Path) -> None:
    sequences = load(write(tmp_path, LOG))
    assert sequences.split.cuts == (200, 300)
    assert [names(sequences, sequences.train(user)) for user in range(4)] == [
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b", "c"],
        ["c", "a", "b", "d", "a", "b", "c"],
        [],
    ]
    assert sequences.validated_users.tolist() == [0, 1]
    assert example(sequences, sequences.validation(0)) == (["a", "b", "c", "a"], "late")
    assert example(sequences, sequences.validation(1)) == (["b", "c", "a", "b", "c"], "d")
    # Bob and Cy do nothing after the cut, and of Di nothing is known before what would be predicted.
    assert sequences.tested_users.tolist() == [0]
    assert example(sequences, sequences.test(0)) == (["a", "b", "c", "a", "late"], "d")

    # By what training saw of them; "d" was touched three times, twice of them later.
    assert list(sequences.vocabulary.item_ids) == ["a", "b", "c", "d", "late", "later"]
    assert sequences.train_counts().tolist() == [0, 5, 5, 5, 1, 0, 0]


def test_who_comes_new_is_told_from_who_comes_again(tmp_path: Path) -> None:
    log = {"ann": LOG["ann"][:-1], "bob": LOG["bob"], "cy": [*LOG["cy"][:-1], ("c", 304)]}
    log |= {"di": [("b", 302), ("c", 303)], "old": [("a", 9)]}
    sequences = load(write(tmp_path, log))
    assert sequences.split.cuts == (200, 302)
    assert sequences.tested_users.tolist() == [2]
    assert example(sequences, sequences.test(2)) == (["c", "a", "b", "d", "a", "b"], "c")
    assert sequences.newcomers.tolist() == [3]
    assert example(sequences, sequences.newcomer_test(3)) == (["b"], "c")


def test_the_cold_are_told_from_the_others(tmp_path: Path) -> None:
    sequences = load(write(tmp_path, LOG))
    examples = [(sequences.items[:4], 1), (sequences.items[:5], 4), (sequences.items[:6], 5)]
    cold = {name: part.users.tolist() for name, part in slices_of(examples, sequences.train_counts()).items()}
    assert cold == {
        "short_histories": [True, False, False],
        "cold_items": [False, True, True],
        "untouched_items": [False, False, True],
    }


def test_what_came_after_the_cut_changes_nothing_that_is_learnt_from(tmp_path: Path) -> None:
    """The same past with two different futures: every table of counts, and every sequence, is the same."""
    future = {"ann": [*LOG["ann"][:4], ("d", 200), ("c", 300)], "bob": [*LOG["bob"][:5], ("late", 201)]}
    learnt = []
    for place, log in enumerate((LOG, LOG | future)):
        settings = write(tmp_path / str(place), log)
        sequences = load(settings)
        catalogue = read_catalogue(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
        activity = ActivityLog(sequences).as_of(sequences.split.cuts[0])
        tables = ranking_tables(sequences, catalogue, activity)
        batches = TrainBatches(sequences, 20, 2, 1, 0.5, seed=1)
        spans = [span for batch in batches.of_epoch(0) for span in batch]
        learnt.append(
            {
                "vocabulary": list(sequences.vocabulary.item_ids[:4]),
                "counts": sequences.train_counts().tolist(),
                "followed": directed_cooccurrence(sequences).toarray().tolist(),
                "ease": ease_weights(sequences).tolist(),
                "batches": [names(sequences, sequences.items[start:end]) for start, end in spans],
                "tables": [
                    np.nan_to_num(np.asarray(table)).tolist()
                    for table in (
                        tables.popularity,
                        tables.mean_log_position,
                        tables.mean_share_before,
                        tables.mean_log_history_length,
                        tables.activity,
                    )
                ],
                "session": [tables.session.items.tolist(), tables.session.weights.tolist()],
            }
        )
    assert learnt[0] == learnt[1]
    assert all("late" not in batch and len(batch) >= 2 for batch in learnt[0]["batches"])
    untouched = np.array(learnt[0]["followed"])[5:]
    assert not untouched.any()


def two_futures(tmp_path: Path) -> list[JobSettings]:
    """400 users go in a circle; validation begins at 1,000, the test at 2,000, and there they go on or jump back."""
    circles = cyclic_sequences(num_users=400, num_items=40, length=10)
    settings = []
    for name in ("onwards", "back"):
        log = {}
        for number, (user, items) in enumerate(circles.items()):
            times = [*range(number, number + 8), 1000 + number, 2000 + number]
            last = items[-1] if name == "onwards" else f"i{(int(items[0][1:]) - 2) % 40:03d}"
            log[user] = list(zip([*items[:-1], last], times, strict=True))
        settings.append(write(tmp_path / name, log, train_minutes=1.0))
    return settings


def test_the_trained_model_and_its_second_stage_know_nothing_of_the_test(tmp_path: Path) -> None:
    directories, metrics = [], []
    futures = two_futures(tmp_path)
    for settings in futures:
        train_model(settings, SMALL)
        evaluate(settings)
        directories.append(latest_model(settings.models_dir))
        metrics.append(json.loads((directories[-1] / METRICS_FILE).read_text()))
    records = [json.loads((directory / TRAINING_FILE).read_text()) for directory in directories]
    stages = [dict(record["second_stage"]) for record in records]
    for stage in stages:
        del stage["seconds"], stage["fingerprint"]
    assert stages[0] == stages[1]
    assert stages[0]["num_examples"] == 400  # so it was learnt from validation, of which the test changed nothing
    first, second = (load_file(directory / WEIGHTS_FILE) for directory in directories)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert (directories[0] / ITEMS_FILE).read_text() == (directories[1] / ITEMS_FILE).read_text()

    assert [each["num_users"] for each in metrics] == [400, 400]
    assert metrics[0]["ndcg_at_10"] > metrics[1]["ndcg_at_10"]
    assert metrics[0]["slices"]["newcomers"]["num_users"] == 0
    report = (futures[0].reports_dir / directories[0].name / "report.md").read_text()
    assert "Temporal split: trained on what happened before 1970-01-01 00:16 UTC" in report
    assert "for measuring only" in report


def test_a_model_for_measuring_is_kept_apart_and_never_served(tmp_path: Path) -> None:
    served, measured = job_settings(tmp_path), job_settings(tmp_path, split="temporal")
    assert served.models_dir != measured.models_dir
    assert served.reports_dir != measured.reports_dir
    assert towers_fingerprint("c0ffee", served, SMALL) != towers_fingerprint("c0ffee", measured, SMALL)
    write_log(measured, LOG)
    train_model(measured, SMALL)
    with pytest.raises(JobError, match="make train"):
        latest_model(served.models_dir)


@pytest.mark.parametrize("job", [final_fit, register, lambda settings: newest_version(None, settings)])
def test_jobs_that_serve_refuse_a_model_for_measuring(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(JobError, match="SPLIT=temporal trains models for measuring only"):
        job(job_settings(tmp_path, split="temporal"))


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            {user: [(item, 5) for item in "abcd"] for user in ("ann", "bob")},
            "all 8 interactions have the same timestamp, 5",
        ),
        ({user: list(zip("abcd", range(3, 7), strict=True)) for user in ("ann", "bob")}, "every one of 2 users begins"),
        (
            {f"u{number}": [("ab"[number % 2], number)] for number in range(40)},
            "32 of 40 interactions are before 32; of the users from before it 0 come again before 36",
        ),
        ({"ann": [("a", 7), ("b", 6), ("c", 9)], "bob": [("c", 2)]}, "not sorted by time"),
    ],
    ids=["one time", "places instead of times", "nobody has a history", "unsorted"],
)
def test_times_that_allow_for_no_split_are_refused_by_what_was_found(
    log: dict[str, list[tuple[str, int]]], found: str, tmp_path: Path
) -> None:
    settings = write(tmp_path, log)
    with pytest.raises(DataError, match=found) as refused:
        train_model(settings, SMALL)
    assert "interactions.parquet" in str(refused.value)


def test_leave_one_out_needs_no_times(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    write_processed(settings, cyclic_sequences(num_users=3, num_items=10, length=5))
    assert len(load(settings).tested_users) == 3
