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
from training.evaluation.baseline_set import BaselineSet
from training.evaluation.gains import Gains
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
from training.evaluation.ranking import Ranking, Scorer, TwoTowerScorer, rank_held_out, ranks_of_held_out
from training.evaluation.report import TITLES, write_report
from training.evaluation.rolling import write_rolling_report
from training.evaluation.slices import Slice, new_items_of, repeats_of, slices_of
from training.evaluation.two_stage_scorer import TwoStageScorer
from training.evaluation.windows import Window, window_of_newcomers, window_of_test, window_of_validation
from training.job import for_each_cut, run_job
from training.model_directory import latest_model, read_training, require_trained_on
from training.settings import JobSettings

CUTOFFS = [10, 50, 100, 200]
NEWCOMERS = "separately: users who joined after the cut, on their second item"
NO_SECOND_STAGE = "the release has no second stage"
MAX_VALIDATION_USERS = 5_000
"""Users on whose validation items the best baseline is chosen, at most."""
EVALUATION_VERSION = 4
"""Raise it when a change of the code leads to other metrics of the same model, which is then evaluated again."""


def evaluate(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained, or if it was trained on other data than is prepared."""
    directory = latest_model(settings.models_dir)
    report = settings.reports_dir / directory.name
    with exclusive_lock(report):
        metrics_file = directory / METRICS_FILE
        if metrics_file.exists() and report.exists():
            measured = json.loads(metrics_file.read_text(encoding="utf-8"))
            if measured.get("evaluation_version") == EVALUATION_VERSION:
                return f"{directory.name} is already evaluated; {_headline(measured)}"
        sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split, settings.shares)
        require_trained_on(directory, settings.processed_dir, sequences)
        training = read_training(directory)
        metrics, gains = _measure(settings, sequences, directory, training)
        with atomic_directory(report) as partial:
            write_report(partial, metrics, training)
            gains.save(partial)
        with atomic_file(metrics_file) as partial_file:
            partial_file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return f"{directory.name}: {_headline(metrics)}; report in {report}"


def evaluate_split(settings: JobSettings) -> str:
    """The job for any split: for the rolling one, every cut and then a report about all of them."""
    cuts = settings.of_each_cut()
    line = for_each_cut(evaluate)(settings)
    return line if len(cuts) == 1 else f"{line}; {write_rolling_report(settings)}"


def _measure(
    settings: JobSettings, sequences: Sequences, directory: Path, training: dict[str, Any]
) -> tuple[dict[str, Any], Gains]:
    """The content of metrics.json, which is the served model's metrics, and those of all models under `models`; and
    the gains of every user."""
    test = window_of_test(sequences, settings.seed)
    newcomers = window_of_newcomers(sequences, settings.seed)
    counts = sequences.train_counts()
    exclude_seen = bool(training["exclude_seen"])
    print("evaluate: the baselines ...", flush=True)
    baselines = BaselineSet(sequences, exclude_seen=exclude_seen)
    chosen = baselines.choose(window_of_validation(sequences, settings.seed, MAX_VALIDATION_USERS))
    rankings = baselines.rank(test, chosen)
    ranks_of_newcomers = {name: ranking.ranks for name, ranking in baselines.rank(newcomers, chosen).items()}
    two_tower = TwoTowerScorer(load_model(directory))
    scorers: dict[str, Scorer] = {"two_tower": two_tower}
    candidates: dict[str, Any] | None = None
    if (directory / SECOND_STAGE_FILE).exists():
        scorers["two_stage"] = two_stage = TwoStageScorer(two_tower.model, directory, exclude_seen=exclude_seen)
        print("evaluate: the sources of candidates ...", flush=True)
        candidates = {
            **two_stage.source_recall(test.examples, test.seen),
            "recall_on_validation": training["second_stage"]["recall"],
        }
    for name, scorer in scorers.items():
        print(f"evaluate: {name} ...", flush=True)
        rankings[name] = rank_held_out(scorer, test.examples, exclude_seen, seen=test.seen)
        ranks_of_newcomers[name] = ranks_of_held_out(scorer, newcomers.examples, exclude_seen, seen=newcomers.seen)
    skipped = baselines.skipped if "two_stage" in scorers else {**baselines.skipped, "two_stage": NO_SECOND_STAGE}
    gains = {name: ndcg_gains(ranking.ranks, 10) for name, ranking in rankings.items()}
    models = {name: metrics_of(ranking, counts[1:]) for name, ranking in rankings.items()}
    in_time = sequences.split.cuts is not None
    served = "two_stage" if "two_stage" in models else "two_tower"
    ours = models[served]
    over_best = gains[served] - gains[chosen.best]
    low, high = bootstrap_interval(over_best, settings.seed)
    measured: dict[str, Any] = {
        **ours,
        "evaluation_version": EVALUATION_VERSION,
        "served": served,
        "best_baseline": chosen.best,
        "best_baseline_ndcg_at_10": models[chosen.best]["ndcg_at_10"],
        "lift_over_best_baseline": float(over_best.mean()),
        "lift_over_best_baseline_low": low,
        "lift_over_best_baseline_high": high,
        "baselines_on_validation": chosen.ndcg_at_10,
        "half_life_days": chosen.half_life_days,
        "ndcg_at_10_interval": bootstrap_interval(gains[served], settings.seed),
        "lift_over_popularity": _ratio(ours["ndcg_at_10"], models["popularity"]["ndcg_at_10"]),
        "lift_over_covisitation": _ratio(ours["ndcg_at_10"], models["covisitation"]["ndcg_at_10"]),
        "num_users": len(test.examples),
        "num_evaluable_users": len(sequences.tested_users),
        "share_seen_before": _share_seen_before(test.examples),
        "exclude_seen": exclude_seen,
        "split": settings.split,
        "cuts": sequences.split.cuts,
        "end": sequences.split.end,
        "num_unsearchable_items": two_tower.num_unsearchable,
        "num_train_interactions": int(counts.sum()),
        "num_interactions": len(sequences.items),
        "cutoffs": CUTOFFS,
        "models": models,
        "skipped": skipped,
        "intervals": {name: bootstrap_interval(values, settings.seed) for name, values in gains.items()},
        "candidates": candidates,
        "slices": _by_slice(_slices(test, counts, exclude_seen=exclude_seen, timed=in_time), rankings),
    }
    if in_time:
        measured["slices"]["newcomers"] = _of_slice(NEWCOMERS, ranks_of_newcomers)
    if served == "two_stage":
        lift = gains["two_stage"] - gains["two_tower"]
        measured["second_stage_lift"] = float(lift.mean())
        measured["second_stage_lift_interval"] = bootstrap_interval(lift, settings.seed)
    return measured, Gains(test.users, gains)


def _slices(test: Window, counts: NDArray[np.int64], *, exclude_seen: bool, timed: bool) -> dict[str, Slice]:
    return {
        **slices_of(test.examples, counts),
        **(new_items_of(test.examples, test.known_items) if timed else {}),
        **({} if exclude_seen else repeats_of(test.examples)),
    }


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
    best = metrics["best_baseline"]
    return (
        f"NDCG@10 {metrics['ndcg_at_10']:.4f} and HR@200 {metrics['hr_at_200']:.4f} on test; the best baseline is "
        f"{TITLES[best]} with {metrics['best_baseline_ndcg_at_10']:.4f}"
    )


if __name__ == "__main__":
    run_job("evaluate", evaluate_split)
