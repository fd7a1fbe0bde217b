"""Training and evaluation on catalogues unlike films: none of them needs an edit."""

import json
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataError
from recsys.model.files import METRICS_FILE
from recsys.model.item_activity import unknown_activity
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.ranking_features import RankingFeatures
from recsys.model.release import Release
from tests.unit.sequence_fixtures import job_settings, train_model, write_processed
from training.datasets.catalogue import read_catalogue
from training.datasets.sequences import load_sequences
from training.jobs.evaluate import evaluate
from training.model_directory import latest_model
from training.models.ranking_tables import ranking_tables
from training.models.recipe import Recipe
from training.release_manifest import describe_release

SMALL = Recipe(embedding_dim=32, max_history=50, steps_per_round=20, max_epochs=8, warmup_steps=10)


def read_metrics(directory: Path) -> dict:
    return json.loads((directory / METRICS_FILE).read_text())


def test_groceries_are_bought_again(tmp_path: Path) -> None:
    """Everybody has four staples and buys them in turns: without repeats there is nothing to recommend."""
    random = np.random.default_rng(0)
    baskets = {
        f"u{user:03d}": [f"i{item:02d}" for item in np.tile(random.permutation(60)[:4], 5)] for user in range(300)
    }
    found = {}
    for exclude_seen in (True, False):
        settings = job_settings(tmp_path / str(exclude_seen), exclude_seen=exclude_seen, train_minutes=1.0)
        write_processed(settings, baskets)
        train_model(settings, SMALL)
        evaluate(settings)
        directory = latest_model(settings.models_dir)
        found[exclude_seen] = read_metrics(directory)
        describe_release(directory)
        assert Release.load(1, directory).manifest.policy.exclude_seen is exclude_seen
        report = (settings.reports_dir / directory.name / "report.md").read_text()
        assert ("EXCLUDE_SEEN=false" in report) is exclude_seen
    assert found[True]["share_seen_before"] == 1.0
    assert found[True]["ndcg_at_10"] == 0.0
    assert found[False]["ndcg_at_10"] > 0.6


def test_histories_are_short_and_items_have_no_content(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = np.clip(random.geometric(0.18, 800), 1, 40)
    assert np.median(lengths) <= 5
    starts = random.integers(0, 80, 800)
    settings = job_settings(tmp_path, train_minutes=1.0)
    table = {
        f"u{user:03d}": [f"i{(start + step) % 80:02d}" for step in range(length)]
        for user, (start, length) in enumerate(zip(starts, lengths, strict=True))
    }
    write_processed(settings, table)
    bare = pl.read_parquet(settings.processed_dir / "items.parquet").select("item_id")
    bare.with_columns(title=pl.col("item_id")).write_parquet(settings.processed_dir / "items.parquet")
    train_model(settings, SMALL)
    evaluate(settings)
    metrics = read_metrics(latest_model(settings.models_dir))
    assert metrics["ndcg_at_10"] > 0.15
    assert metrics["slices"]["short_histories"]["num_users"] > 100


def test_one_user_is_refused_in_a_sentence(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, {"ann": list("abcdefgh")})
    with pytest.raises(DataError, match="fewer than 2 users"):
        train_model(settings, SMALL)


def test_the_tables_of_a_large_catalogue_are_bounded(tmp_path: Path) -> None:
    """100,000 items: some hundred megabytes, and features of 200 candidates in milliseconds."""
    num_items, random = 100_000, np.random.default_rng(0)
    settings = job_settings(tmp_path, train_minutes=1.0)
    settings.processed_dir.mkdir(parents=True)
    users = np.repeat(np.arange(20_000), 10)
    touched = (num_items * random.random(len(users)) ** 3).astype(int)
    pl.DataFrame(
        {
            "user_id": [f"u{user:05d}" for user in users],
            "item_id": [f"i{item}" for item in touched],
            "timestamp": np.arange(len(users)),
            "event": "view",
        }
    ).write_parquet(settings.processed_dir / "interactions.parquet")
    items = pl.DataFrame({"item_id": [f"i{item}" for item in range(num_items)]})
    items.write_parquet(settings.processed_dir / "items.parquet")
    (settings.processed_dir / "manifest.json").write_text('{"content_hash": "c0ffee"}')
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    catalogue = read_catalogue(settings.processed_dir / "items.parquet", sequences.vocabulary.item_ids)
    tables = ranking_tables(sequences, catalogue, unknown_activity(num_items))
    tables.save(tmp_path)
    assert (tmp_path / "ranking_tables.safetensors").stat().st_size < 200_000_000
    assert not tables.ease.weights.any()
    embeddings = random.normal(size=(num_items, 16)).astype(np.float32)
    features = RankingFeatures(tables, embeddings, np.zeros((num_items + 1, 0), np.uint8))
    history, candidates = np.arange(1, 201), random.permutation(num_items)[:200] + 1
    features.matrix(history, candidates, embeddings[0])  # the first call compiles
    started = time.process_time()
    for _ in range(10):
        matrix = features.matrix(history, candidates, embeddings[0])
    assert (time.process_time() - started) / 10 < 0.05
    assert matrix.shape == (200, len(FEATURE_NAMES))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6_000_000
