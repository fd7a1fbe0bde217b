"""Test the latest trained model once, beside its baselines: `python -m training.evaluate`.

Writes `metrics.json` into the model's directory and a report under `reports_dir/<fingerprint>/`. Run again on the same
model it does nothing.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import JobError
from recsys.model.files import METRICS_FILE, SECOND_STAGE_FILE, TRAINING_FILE
from recsys.model.two_tower import load_model
from training.baselines import CovisitationScorer, PopularityScorer
from training.cooccurrence import directed_cooccurrence
from training.job import run_job
from training.metrics import (
    bootstrap_interval,
    coverage,
    hr_at_k,
    mrr_at_k,
    ndcg_at_k,
    ndcg_gains,
    popularity_bias,
)
from training.ranking import Ranking, Scorer, TwoTowerScorer, rank_held_out
from training.report import write_report
from training.sequences import data_content_hash, load_sequences
from training.settings import JobSettings
from training.train import LATEST_FILE
from training.two_stage_scorer import TwoStageScorer
from training.whole import only_one_at, whole_directory, whole_file

CUTOFFS = [10, 50, 100, 200]
MAX_USERS = 20_000
"""Of more users than this a random sample is tested: the standard error of NDCG@10 is then some 0.002."""


def evaluate(settings: JobSettings) -> str:
    """The job. Raises JobError where no model is trained, or where it was trained on other data than is prepared."""
    directory = latest_model(settings.models_dir)
    report = settings.reports_dir / directory.name
    with only_one_at(report):
        metrics_file = directory / METRICS_FILE
        if metrics_file.exists() and report.exists():
            return f"{directory.name} is already evaluated; {_headline(json.loads(metrics_file.read_text('utf-8')))}"
        training = json.loads((directory / TRAINING_FILE).read_text(encoding="utf-8"))
        if training["data_content_hash"] != data_content_hash(settings.processed_dir):
            raise JobError(
                f"{directory} was trained on other data than {settings.processed_dir}; run `make train` first"
            )
        metrics = _measure(settings, directory, training)
        with whole_directory(report) as partial:
            write_report(partial, metrics, training)
        with whole_file(metrics_file) as partial_file:
            partial_file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return f"{directory.name}: {_headline(metrics)}; report in {report}"


def latest_model(models_dir: Path) -> Path:
    """The directory of the model that was trained last. Raises JobError where there is none."""
    latest = models_dir / LATEST_FILE
    if not latest.exists():
        raise JobError(f"no trained model in {models_dir}; run `make train` first")
    return models_dir / latest.read_text(encoding="utf-8").strip()


def _measure(settings: JobSettings, directory: Path, training: dict[str, Any]) -> dict[str, Any]:
    """metrics.json: the two towers' metrics by name at the top, those of all models under `models`."""
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    evaluable = users = sequences.evaluated_users
    if len(users) > MAX_USERS:
        users = np.sort(np.random.default_rng(settings.seed).permutation(users)[:MAX_USERS])
    examples = [sequences.test(int(user)) for user in users]
    counts = sequences.train_counts()
    model = load_model(directory)
    scorers: dict[str, Scorer] = {
        "popularity": PopularityScorer(counts),
        "covisitation": CovisitationScorer(directed_cooccurrence(sequences)),
        "two_tower": TwoTowerScorer(model),
    }
    if (directory / SECOND_STAGE_FILE).exists():
        scorers["two_stage"] = TwoStageScorer(model, directory, exclude_seen=training["exclude_seen"])
    rankings = {name: rank_held_out(scorer, examples, training["exclude_seen"]) for name, scorer in scorers.items()}
    models = {name: _metrics(ranking, counts[1:]) for name, ranking in rankings.items()}
    served = "two_stage" if "two_stage" in models else "two_tower"
    ours = models[served]
    return {
        **ours,
        "served": served,
        "ndcg_at_10_interval": bootstrap_interval(ndcg_gains(rankings[served].ranks, 10), settings.seed),
        "lift_over_popularity": _ratio(ours["ndcg_at_10"], models["popularity"]["ndcg_at_10"]),
        "lift_over_covisitation": _ratio(ours["ndcg_at_10"], models["covisitation"]["ndcg_at_10"]),
        "num_users": len(users),
        "num_evaluable_users": len(evaluable),
        "cutoffs": CUTOFFS,
        "models": models,
    }


def _metrics(ranking: Ranking, counts: NDArray[np.int64]) -> dict[str, float]:
    by_cutoff = {
        f"{name}_at_{k}": metric(ranking.ranks, k)
        for name, metric in (("hr", hr_at_k), ("ndcg", ndcg_at_k), ("mrr", mrr_at_k))
        for k in CUTOFFS
    }
    return {
        **by_cutoff,
        "coverage_at_10": coverage(ranking.recommended, len(counts)),
        "popularity_bias_at_10": popularity_bias(ranking.recommended, counts),
    }


def _ratio(value: float, base: float) -> float:
    return value / max(base, 1e-9)


def _headline(metrics: dict[str, Any]) -> str:
    baselines = ", ".join(
        f"{name} {metrics['models'][name]['ndcg_at_10']:.4f}" for name in ("popularity", "covisitation")
    )
    return f"NDCG@10 {metrics['ndcg_at_10']:.4f} and HR@200 {metrics['hr_at_200']:.4f} on test ({baselines})"


if __name__ == "__main__":
    run_job("evaluate", evaluate)
