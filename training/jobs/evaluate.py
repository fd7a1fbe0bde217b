"""Evaluate the latest model and its baselines on the test items: `python -m training.jobs.evaluate`.

Writes `metrics.json` to the model's directory and a report to `reports_dir/<fingerprint>/`. A model that is already
evaluated is not evaluated again.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.model.files import METRICS_FILE, SECOND_STAGE_FILE
from recsys.model.two_tower import load_model
from training.atomic import atomic_directory, atomic_file, exclusive_lock
from training.datasets.sequences import Example, Sequences, load_sequences
from training.evaluation.baselines import CovisitationScorer, EaseScorer, PopularityScorer
from training.evaluation.metrics import (
    Ranks,
    bootstrap_interval,
    coverage,
    hr_at_k,
    mrr_at_k,
    ndcg_at_k,
    ndcg_gains,
    popularity_bias,
)
from training.evaluation.ranking import Ranking, Scorer, TwoTowerScorer, rank_held_out
from training.evaluation.report import write_report
from training.evaluation.sample import sample_users, tested_users
from training.evaluation.slices import Slice, slices_of
from training.evaluation.two_stage_scorer import TwoStageScorer
from training.job import run_job
from training.model_directory import latest_model, read_training, require_trained_on
from training.models.cooccurrence import directed_cooccurrence
from training.models.ease import ease_weights
from training.settings import JobSettings

CUTOFFS = [10, 50, 100, 200]
NEWCOMERS = "separately: users who joined after the cut, on their second item"
MAX_EASE_BASELINE_ITEMS = 20_000
"""The baseline is left out for larger catalogues: EASE inverts a dense matrix of the catalogue's size."""


def evaluate(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained, or if it was trained on other data than is prepared."""
    directory = latest_model(settings.models_dir)
    report = settings.reports_dir / directory.name
    with exclusive_lock(report):
        metrics_file = directory / METRICS_FILE
        if metrics_file.exists() and report.exists():
            return f"{directory.name} is already evaluated; {_headline(json.loads(metrics_file.read_text('utf-8')))}"
        sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split)
        require_trained_on(directory, settings.processed_dir, sequences)
        training = read_training(directory)
        metrics = _measure(settings, sequences, directory, training)
        with atomic_directory(report) as partial:
            write_report(partial, metrics, training)
        with atomic_file(metrics_file) as partial_file:
            partial_file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return f"{directory.name}: {_headline(metrics)}; report in {report}"


def _measure(settings: JobSettings, sequences: Sequences, directory: Path, training: dict[str, Any]) -> dict[str, Any]:
    """The content of metrics.json: the served model's metrics, and those of all models under `models`."""
    users = tested_users(sequences, settings.seed)
    examples = [sequences.test(int(user)) for user in users]
    newcomers = sample_users(sequences.newcomers, settings.seed)
    second_items = [sequences.newcomer_test(int(user)) for user in newcomers]
    counts = sequences.train_counts()
    exclude_seen = bool(training["exclude_seen"])
    rankings: dict[str, Ranking] = {}
    ranks_of_newcomers: dict[str, Ranks] = {}
    skipped: dict[str, str] = {}
    two_tower = TwoTowerScorer(load_model(directory))
    for name, scorer in _scorers(sequences, counts, directory, two_tower, exclude_seen).items():
        if isinstance(scorer, str):
            skipped[name] = scorer
        else:
            print(f"evaluate: {name} ...", flush=True)
            rankings[name] = rank_held_out(scorer, examples, exclude_seen)
            ranks_of_newcomers[name] = rank_held_out(scorer, second_items, exclude_seen).ranks
    gains = {name: ndcg_gains(ranking.ranks, 10) for name, ranking in rankings.items()}
    models = {name: metrics_of(ranking, counts[1:]) for name, ranking in rankings.items()}
    served = "two_stage" if "two_stage" in models else "two_tower"
    ours = models[served]
    measured: dict[str, Any] = {
        **ours,
        "served": served,
        "ndcg_at_10_interval": bootstrap_interval(gains[served], settings.seed),
        "lift_over_popularity": _ratio(ours["ndcg_at_10"], models["popularity"]["ndcg_at_10"]),
        "lift_over_covisitation": _ratio(ours["ndcg_at_10"], models["covisitation"]["ndcg_at_10"]),
        "num_users": len(users),
        "num_evaluable_users": len(sequences.tested_users),
        "share_seen_before": _share_seen_before(examples),
        "exclude_seen": exclude_seen,
        "split": settings.split,
        "cuts": sequences.split.cuts,
        "num_unsearchable_items": two_tower.num_unsearchable,
        "num_train_interactions": int(counts.sum()),
        "num_interactions": len(sequences.items),
        "cutoffs": CUTOFFS,
        "models": models,
        "skipped": skipped,
        "intervals": {name: bootstrap_interval(values, settings.seed) for name, values in gains.items()},
        "slices": _by_slice(slices_of(examples, counts), rankings),
    }
    if sequences.split.cuts is not None:
        measured["slices"]["newcomers"] = _of_slice(NEWCOMERS, ranks_of_newcomers)
    if served == "two_stage":
        lift = gains["two_stage"] - gains["two_tower"]
        measured["second_stage_lift"] = float(lift.mean())
        measured["second_stage_lift_interval"] = bootstrap_interval(lift, settings.seed)
    return measured


def _scorers(
    sequences: Sequences,
    counts: NDArray[np.int64],
    directory: Path,
    two_tower: TwoTowerScorer,
    exclude_seen: bool,
) -> dict[str, Scorer | str]:
    """The scorers by model name; for a model that is left out, the reason instead."""
    scorers: dict[str, Scorer | str] = {
        "popularity": PopularityScorer(counts),
        "ease": EaseScorer(ease_weights(sequences))
        if sequences.num_items <= MAX_EASE_BASELINE_ITEMS
        else f"its matrix grows with the square of the catalogue size, which is {sequences.num_items:,} items",
        "covisitation": CovisitationScorer(directed_cooccurrence(sequences)),
        "two_tower": two_tower,
        "two_stage": "the release has no second stage",
    }
    if (directory / SECOND_STAGE_FILE).exists():
        scorers["two_stage"] = TwoStageScorer(two_tower.model, directory, exclude_seen=exclude_seen)
    return scorers


def metrics_of(ranking: Ranking, counts: NDArray[np.int64]) -> dict[str, float]:
    """All metrics by name. counts [num_items] is the popularity of each column."""
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


def _by_slice(slices: dict[str, Slice], rankings: dict[str, Ranking]) -> dict[str, Any]:
    """NDCG@10 and HR@10 of every model on every slice; no models if the slice is empty."""
    return {
        name: _of_slice(part.title, {model: ranking.ranks[part.users] for model, ranking in rankings.items()})
        for name, part in slices.items()
    }


def _of_slice(title: str, ranks_of: dict[str, Ranks]) -> dict[str, Any]:
    return {
        "title": title,
        "num_users": max(len(ranks) for ranks in ranks_of.values()),
        "models": {
            model: {"ndcg_at_10": ndcg_at_k(ranks, 10), "hr_at_10": hr_at_k(ranks, 10)}
            for model, ranks in ranks_of.items()
            if len(ranks)
        },
    }


def _share_seen_before(examples: list[Example]) -> float:
    return float(np.mean([bool((history == target).any()) for history, target in examples]))


def _ratio(value: float, base: float) -> float:
    return value / max(base, 1e-9)


def _headline(metrics: dict[str, Any]) -> str:
    others = ", ".join(
        f"{name} {values['ndcg_at_10']:.4f}" for name, values in metrics["models"].items() if name != metrics["served"]
    )
    return f"NDCG@10 {metrics['ndcg_at_10']:.4f} and HR@200 {metrics['hr_at_200']:.4f} on test ({others})"


if __name__ == "__main__":
    run_job("evaluate", evaluate)
