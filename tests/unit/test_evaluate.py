import json
from pathlib import Path

import pytest

from recsys.contracts.base import NUM_CANDIDATES
from recsys.errors import JobError
from recsys.model.files import METRICS_FILE
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, train_model, write_processed
from training.jobs.evaluate import evaluate
from training.model_directory import latest_model
from training.models.recipe import Recipe


def test_the_latest_model_is_tested_beside_its_baselines(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    with pytest.raises(JobError, match="make train"):
        evaluate(settings)
    write_processed(settings, cyclic_sequences(num_users=250, num_items=50, length=12))
    train_model(settings, Recipe(embedding_dim=32, max_history=20, steps_per_round=20, max_epochs=2, warmup_steps=10))
    line = evaluate(settings)
    directory = latest_model(settings.models_dir)
    metrics = json.loads((directory / METRICS_FILE).read_text())
    assert metrics["num_users"] == 250
    assert metrics["ndcg_at_10"] > 0.9
    assert metrics["ndcg_at_10"] > 5 * metrics["models"]["popularity"]["ndcg_at_10"]
    # What follows an item in a circle is known to co-visitation as well.
    assert metrics["models"]["covisitation"]["hr_at_10"] > 0.9
    assert metrics["served"] == "two_stage"
    # The timestamps are positions, and seen items are not recommended, so there are no other baselines.
    assert set(metrics["models"]) == {"popularity", "ease", "covisitation", "two_tower", "two_stage"}
    assert metrics["best_baseline"] in ("ease", "covisitation")
    assert metrics["best_baseline_ndcg_at_10"] == metrics["models"][metrics["best_baseline"]]["ndcg_at_10"]
    difference = metrics["ndcg_at_10"] - metrics["best_baseline_ndcg_at_10"]
    assert metrics["lift_over_best_baseline"] == pytest.approx(difference)
    assert metrics["lift_over_best_baseline_low"] <= difference <= metrics["lift_over_best_baseline_high"]
    for metric in ("ndcg", "hr", "mrr"):
        assert {f"{metric}_at_{k}" for k in (10, 50, 100, 200)} <= set(metrics["models"]["two_stage"])
    low, high = metrics["second_stage_lift_interval"]
    assert low <= metrics["second_stage_lift"] <= high
    assert metrics["slices"]["short_histories"]["num_users"] == 0
    low, high = metrics["ndcg_at_10_interval"]
    assert low <= metrics["ndcg_at_10"] <= high
    assert f"{metrics['ndcg_at_10']:.4f}" in line
    for model in metrics["models"].values():
        assert all(0 <= value <= 1 for value in model.values())

    report = settings.reports_dir / directory.name
    text = (report / "report.md").read_text()
    assert "| two towers |" in text
    assert "The best baseline on validation is **" in text
    assert "Left out, because the timestamps are positions in a sequence: popularity of 7 days; " in text
    for image in ("metrics_by_k.png", "intervals.png", "validation.png"):
        assert f"({image})" in text
        assert (report / image).stat().st_size > 1000

    candidates = metrics["candidates"]
    assert sum(candidates["counts"].values()) == NUM_CANDIDATES
    # 50 items are fewer than the towers may propose, and the data has no times.
    assert {**candidates["recall"], "following": 1.0} == {
        "towers": 1.0,
        "towers_alone": 1.0,
        "all": 1.0,
        "own": 0.0,
        "trending": 0.0,
        "trending_in_categories": 0.0,
        "following": 1.0,
    }
    assert f"| the towers beside the others, {candidates['counts']['towers']} candidates | 1.0000 | 1.0000 |" in text

    before = (directory / METRICS_FILE).stat().st_mtime_ns
    assert "already evaluated" in evaluate(settings)
    assert (directory / METRICS_FILE).stat().st_mtime_ns == before

    write_processed(settings, cyclic_sequences(num_users=249, num_items=50, length=12))
    (directory / METRICS_FILE).unlink()
    with pytest.raises(JobError, match="other data"):
        evaluate(settings)
