"""The final fit learns from what the validation fit is measured on, and nothing is measured on it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recsys.errors import JobError
from recsys.model.feature_distribution import FeatureDistribution
from recsys.model.files import METRICS_FILE, SECOND_STAGE_FILE, TRAINING_FILE, VOCABULARY_FILE
from recsys.model.ranking_tables import RankingTables
from recsys.model.release_manifest import verify_release
from recsys.model.sources import Source
from recsys.model.two_tower import TwoTower, load_model
from recsys.model.vocabulary import Vocabulary
from tests.unit.sequence_fixtures import job_settings, train_model, write_log
from training.datasets.catalogue import read_catalogue
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE
from training.datasets.sequences import Sequences, load_sequences
from training.datasets.whole_log import whole_log
from training.jobs.final_fit import final_fit
from training.model_directory import existing_final_fit, latest_model
from training.models import second_stage
from training.models.activity_log import ActivityLog
from training.models.final_tables import write_final_tables
from training.models.histories import encode_histories
from training.models.ranking_tables import ranking_tables
from training.models.recipe import MIN_FINAL_EPOCHS, Recipe
from training.release_manifest import describe_final_fit
from training.settings import JobSettings

SMALL = Recipe(
    embedding_dim=16,
    max_history=20,
    learning_rate=5e-3,
    sequences_per_batch=2,
    min_items_per_batch=30,
    steps_per_round=200,
    max_epochs=12,
    warmup_steps=5,
)
NUM_USERS, NUM_ITEMS = 240, 30
LATE = "late"
DAY = 86_400


def log_with_a_late_item() -> dict[str, list[tuple[str, int]]]:
    """Everybody goes in a circle, and every other user ends with an item that nobody has before."""
    log = {}
    for user in range(NUM_USERS):
        items = [f"i{(user + step) % NUM_ITEMS:02d}" for step in range(9)] + ([LATE] if user % 2 else [])
        log[f"u{user:03d}"] = [(item, 1_700_000_000 + user + step * DAY) for step, item in enumerate(items)]
    return log


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> JobSettings:
    """A model without a second stage, and its final fit."""
    settings = job_settings(tmp_path_factory.mktemp("final"), train_minutes=10.0)
    write_log(settings, log_with_a_late_item())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second_stage, "MAX_EXAMPLES", 5)
        assert "users are too few" in train_model(settings, SMALL)
    (latest_model(settings.models_dir) / METRICS_FILE).write_text('{"ndcg_at_10": 0.5}')
    assert "learned from 480 more interactions" in final_fit(settings)
    return settings


def catalogue_of(settings: JobSettings, sequences: Sequences) -> pl.DataFrame:
    return read_catalogue(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)


def towers(directory: Path) -> tuple[TwoTower, Vocabulary]:
    return load_model(directory), Vocabulary.load(directory / VOCABULARY_FILE)


def probabilities(directory: Path, histories: list[list[str]]) -> Any:
    """[histories, items] by item id: the softmax of the towers' scores."""
    model, vocabulary = towers(directory)
    indices = [np.array(vocabulary.indices(history), np.int32) for history in histories]
    with torch.no_grad():
        scores = encode_histories(model, indices) @ model.candidate_embeddings(torch.arange(1, len(vocabulary) + 1)).T
    return pl.DataFrame(torch.softmax(scores, dim=1).numpy(), schema=list(vocabulary.item_ids))


def test_the_whole_log_leaves_nothing_out(trained: JobSettings) -> None:
    held_out = load_sequences(trained.processed_dir, trained.models_dir)
    everything = whole_log(held_out)
    assert len(everything.tested_users) == len(everything.validated_users) == 0
    assert everything.train_lengths.sum() == len(held_out.items) == sum(map(len, log_with_a_late_item().values()))
    counts = everything.train_counts()[1:]
    assert (np.diff(counts) <= 0).all()
    assert counts[everything.vocabulary.index_of(LATE) - 1] == NUM_USERS / 2
    assert held_out.train_counts()[held_out.vocabulary.index_of(LATE)] == 0
    for user in (0, 1, 99):
        before = held_out.items[held_out.offsets[user] : held_out.offsets[user + 1]]
        assert [everything.vocabulary.item_id(int(item)) for item in everything.train(user)] == [
            held_out.vocabulary.item_id(int(item)) for item in before
        ]


def test_the_final_fit_has_learned_what_the_validation_fit_has_not_seen(trained: JobSettings) -> None:
    measured = latest_model(trained.models_dir)
    histories = [[item for item, _ in items[:-1]] for items in log_with_a_late_item().values() if items[-1][0] == LATE]
    before = probabilities(measured, histories)[LATE].to_numpy()
    after = probabilities(existing_final_fit(measured), histories)[LATE].to_numpy()
    assert np.mean(after > before) > 0.8
    assert np.mean(after) > 2 * np.mean(before)


def test_an_item_that_was_only_held_out_gets_a_direction(trained: JobSettings) -> None:
    """It has no content, so in the validation fit it has none at all."""
    measured, lengths = latest_model(trained.models_dir), []
    for directory in (measured, existing_final_fit(measured)):
        model, vocabulary = towers(directory)
        late = torch.tensor([vocabulary.index_of(LATE)])
        lengths.append(float(model.item_vectors(late)[0].detach().norm()))
    assert lengths == pytest.approx([0, 1])


def test_the_second_stage_gets_new_counts_and_keeps_its_trees_and_sources(trained: JobSettings, tmp_path: Path) -> None:
    held_out = load_sequences(trained.processed_dir, trained.models_dir)
    everything = whole_log(held_out)
    fitted, output = tmp_path / "fitted", tmp_path / "final"
    fitted.mkdir()
    output.mkdir()
    (fitted / SECOND_STAGE_FILE).write_text("trees")
    log = ActivityLog(held_out)
    tables = ranking_tables(held_out, catalogue_of(trained, held_out), log.as_of(log.end))
    sources = np.arange(len(Source))
    distribution = FeatureDistribution.of([np.random.default_rng(0).random((50, 3), dtype=np.float32)])
    replace(tables, sources=sources, activity_base=log.base(log.end), feature_distribution=distribution).save(fitted)
    write_final_tables(fitted, everything, catalogue_of(trained, everything), output)

    assert (output / SECOND_STAGE_FILE).read_text() == "trees"
    final = RankingTables.load(output)
    assert np.array_equal(final.sources, sources)
    assert np.array_equal(final.feature_distribution.shares, distribution.shares)
    late, known = everything.vocabulary.index_of(LATE), everything.vocabulary.index_of("i00")
    assert np.expm1(final.popularity[late]) == pytest.approx(NUM_USERS / 2)
    end = 1_700_000_000 + 10 * DAY
    assert final.activity_base.activity([], end)[late, 0] > 0
    assert tables.popularity[held_out.vocabulary.index_of("i00")] < final.popularity[known]


def test_its_metrics_are_those_of_the_validation_fit(trained: JobSettings) -> None:
    directory = latest_model(trained.models_dir)
    record = json.loads((existing_final_fit(directory) / TRAINING_FILE).read_text())
    assert record["history"][-1]["epoch"] == MIN_FINAL_EPOCHS
    assert not any(name.startswith("validation") for each in record["history"] for name in each)
    manifest = describe_final_fit(directory)
    assert manifest == verify_release(existing_final_fit(directory))
    assert (manifest.metrics, manifest.fingerprint) == ({"ndcg_at_10": 0.5}, directory.name)
    assert manifest.validation_fit == verify_release(directory).weights_hash != manifest.weights_hash
    assert verify_release(directory).validation_fit is None


def test_what_is_done_is_not_done_again_and_other_data_is_refused(trained: JobSettings, tmp_path: Path) -> None:
    assert "already has its final fit" in final_fit(trained)
    directory = latest_model(trained.models_dir)
    final = existing_final_fit(directory)
    kept = final.rename(tmp_path / "kept")
    log = trained.processed_dir / INTERACTIONS_FILE
    interactions = pl.read_parquet(log)
    try:
        with pytest.raises(JobError, match="run `make final-fit` first"):
            describe_final_fit(directory)
        interactions.head(-1).write_parquet(log)
        with pytest.raises(JobError, match="was trained on other data"):
            final_fit(trained)
        assert not final.exists()
    finally:
        interactions.write_parquet(log)
        kept.rename(final)
