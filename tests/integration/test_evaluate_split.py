"""A split's model through a stack of its own: the same ranks as offline, and nothing of it stays."""

import numpy as np
import psutil
import pytest

from local import evaluate_served
from recsys.errors import JobError
from recsys.model.files import METRICS_FILE
from tests.unit.sequence_fixtures import job_settings, train_model, write_log
from training.evaluation.served import compare_served
from training.jobs.evaluate import evaluate
from training.model_directory import latest_model
from training.models.recipe import Recipe
from training.settings import JobSettings

NOWHERE = "http://127.0.0.1:9"
HOUR = 3600


def weekly_log(num_users: int = 120, num_items: int = 400, visits: int = 16) -> dict[str, list[tuple[str, int]]]:
    """Users go round a few items of their own, and some take what is in fashion on that day."""
    random = np.random.default_rng(0)
    log: dict[str, list[tuple[str, int]]] = {}
    for user in range(num_users):
        own, times = random.choice(num_items, 5, replace=False), np.sort(random.integers(0, 60 * 24, visits))
        fashion = random.random(visits) < 0.3
        items = np.where(fashion, times // (24 * 5), own[np.arange(visits) % len(own)])
        touched = zip(items.tolist(), times.tolist(), strict=True)
        log[f"u{user:03d}"] = [(f"i{item:03d}", 1_700_000_000 + time * HOUR) for item, time in touched]
    return log


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> JobSettings:
    """A trained and evaluated model of the temporal split, with repeats and a second stage."""
    settings = job_settings(tmp_path_factory.mktemp("split"), split="temporal", exclude_seen=False, train_minutes=1.0)
    write_log(settings, weekly_log())
    recipe = Recipe(embedding_dim=16, max_history=20, steps_per_round=10, max_epochs=2, warmup_steps=5)
    assert "second stage of" in train_model(settings, recipe)
    evaluate(settings)
    return settings


def test_a_model_for_measuring_is_served_apart_and_ranks_as_it_does_offline(
    measured: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "QDRANT_URL", "ORCHESTRATOR_URL", "RANKER_URL"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    before = set(psutil.Process().children(recursive=True))
    found = []

    def compare_then_interrupt(*arguments: object) -> None:
        found.append(compare_served(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_served, "compare_served", compare_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate_served.evaluate_served(measured)
    (compared,) = found
    assert compared["tiers"] == {"personalized": compared["num_users"]}
    assert compared["num_users"] > 50
    assert compared["served"] == pytest.approx(compared["offline"], abs=1e-9)
    assert compared["served"]["ndcg_at_10"] > 0
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_model_that_was_not_evaluated_is_not_served(measured: JobSettings) -> None:
    (latest_model(measured.models_dir) / METRICS_FILE).unlink()
    with pytest.raises(JobError, match="was not evaluated; run `make evaluate` first"):
        evaluate_served.evaluate_served(measured)
