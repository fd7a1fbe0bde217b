"""Fit the second stage on the validation items, and keep it only if it improves the ranking significantly.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART") over the candidates that the towers retrieve. The
lift is cross-validated: every user is scored by trees that were fitted without that user. Test items are not used.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.files import SECOND_STAGE_FILE
from recsys.model.ranking_feature_names import (
    CONTENT_ITEMS,
    DECAYS,
    EASE_DECAYS,
    FEATURE_NAMES,
    LATEST_ITEMS,
    SIMILAR_ITEMS,
)
from recsys.model.ranking_tables import RankingTables
from recsys.model.two_tower import load_model
from training.atomic import atomic_file
from training.datasets.sequences import Example, Sequences
from training.evaluation.metrics import ndcg_gains
from training.models.exact_retrieval import ExactRetrieval, Retrieved
from training.models.ranking_tables import ranking_tables

if TYPE_CHECKING:
    # Importing them takes seconds, so the functions that need them do. Every job that asks for a fingerprint gets here.
    from recsys.model.lightgbm_alone import lgb
    from recsys.model.ranking_features import RankingFeatures

FOLDS = 5
MIN_USERS = 200
"""No second stage is fitted with fewer users whose item is among the candidates."""
MAX_USERS = 10_000
MAX_TREES = 300
ROUNDS_PER_LOOK = 5
PATIENCE_ROUNDS = 25
FEATURES_SHARE = 0.35
"""The share of the time after the tables for computing features. The rest is for the trees."""
FINAL_FIT_SHARE = 0.8
"""The share of the time budget after which cross-validation ends. The rest is for the final fit."""
USERS_PER_CHUNK = 128
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Labelled:
    """Users whose validation item is among their candidates."""

    features: list[NDArray[np.float32]]
    """Per user [candidates, features]."""
    labels: list[NDArray[np.int8]]
    """Per user [candidates], 1 for the item that came next."""
    ranks: NDArray[np.float64]
    """[users]: rank of that item by the towers, from 1."""
    num_users: int
    """The number of users, including those whose item is not among the candidates."""


@dataclass(frozen=True)
class CrossValidation:
    num_trees: int
    gains: NDArray[np.float64]
    """[users]: NDCG@10 by trees that were fitted on the other folds."""


def feature_settings() -> dict[str, Any]:
    """Every setting that the features follow from, besides the tables."""
    return {
        "names": FEATURE_NAMES,
        "latest_items": LATEST_ITEMS,
        "decays": DECAYS,
        "ease_decays": EASE_DECAYS,
        "similar_items": SIMILAR_ITEMS,
        "content_items": CONTENT_ITEMS,
    }


def fitting_settings() -> dict[str, Any]:
    """Every setting that the trees follow from, besides their features."""
    return {
        "parameters": PARAMETERS,
        "num_candidates": NUM_CANDIDATES,
        "folds": FOLDS,
        "min_users": MIN_USERS,
        "max_users": MAX_USERS,
        "max_trees": MAX_TREES,
        "rounds_per_look": ROUNDS_PER_LOOK,
        "patience_rounds": PATIENCE_ROUNDS,
        "features_share": FEATURES_SHARE,
        "final_fit_share": FINAL_FIT_SHARE,
    }


def fit_second_stage(
    towers: Path,
    sequences: Sequences,
    catalogue: pl.DataFrame,
    output: Path,
    *,
    exclude_seen: bool,
    seed: int,
    budget_seconds: float,
) -> dict[str, Any]:
    """Write the second stage's files to `output` if it improves NDCG@10; returns how that was measured.

    `towers` holds the files of the two towers; `catalogue` has one row per item in the order of the item indices.
    """
    from recsys.model.ranking_features import RankingFeatures, compile_features

    compile_features()  # not at the expense of the budget
    started = time.monotonic()
    model = load_model(towers)
    tables = ranking_tables(sequences, catalogue)
    retrieval = ExactRetrieval(model, exclude_seen=exclude_seen)
    features = RankingFeatures(tables, retrieval.candidate_embeddings, model.content.numpy())
    # The tables of a large log take a minute or more.
    ready = time.monotonic()
    features_until = ready + FEATURES_SHARE * (started + budget_seconds - ready)
    users = np.random.default_rng(seed).permutation(sequences.validated_users)[:MAX_USERS]
    examples = [sequences.validation(int(user)) for user in users]
    labelled = label(examples, retrieval, features, model.config.max_history, features_until)
    if len(labelled.ranks) < MIN_USERS:
        return {"shipped": False, "outcome": f"no second stage: {len(labelled.ranks)} users to learn from are too few"}
    validated = cross_validate(labelled, FEATURE_NAMES, seed, started + FINAL_FIT_SHARE * budget_seconds)
    before = ndcg_gains(labelled.ranks, 10)
    lift, error = _mean_and_error(validated.gains - before, labelled.num_users)
    shipped = _helps(lift, error)
    if shipped:
        _save(output, tables, _fit(labelled, FEATURE_NAMES, seed, validated.num_trees))
    found = f"second stage of {validated.num_trees} trees: {lift:+.4f} (standard error {error:.4f})"
    return {
        "shipped": shipped,
        "outcome": found if shipped else f"no second stage, because it does not help: {lift:+.4f} ({error:.4f})",
        "num_users": labelled.num_users,
        "num_users_found": len(labelled.ranks),
        "num_trees": validated.num_trees,
        "validation_ndcg_at_10_before": float(before.sum() / labelled.num_users),
        "validation_ndcg_at_10": float(validated.gains.sum() / labelled.num_users),
        "lift": lift,
        "lift_standard_error": error,
        "seconds": round(time.monotonic() - started, 1),
        "parameters": PARAMETERS,
    }


def label(
    examples: list[Example], retrieval: ExactRetrieval, features: "RankingFeatures", max_history: int, until: float
) -> Labelled:
    """The features of all candidates, for as many users as possible before `until` on the monotonic clock."""
    matrices: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int8]] = []
    ranks: list[float] = []
    num_users = 0
    with tqdm(total=len(examples), unit="user", desc="features", mininterval=2.0) as progress:
        for start in range(0, len(examples), USERS_PER_CHUNK):
            if time.monotonic() > until and ranks:
                break
            chunk = examples[start : start + USERS_PER_CHUNK]
            for (history, target), found in zip(chunk, _retrieve(chunk, retrieval), strict=True):
                num_users += 1
                at = np.flatnonzero(found.candidates == target)
                if len(at):
                    steps = history[-max_history:].astype(np.int64)
                    matrices.append(features.matrix(steps, found.candidates, found.query_embedding))
                    labels.append((found.candidates == target).astype(np.int8))
                    ranks.append(float(at[0] + 1))
            progress.update(len(chunk))
    return Labelled(matrices, labels, np.array(ranks), num_users)


def cross_validate(labelled: Labelled, names: list[str], seed: int, until: float) -> CrossValidation:
    """Grow the trees of all folds in parallel, and rank each fold by the trees that were fitted without it.

    The number of trees is the one with the best mean over all folds. Growing ends after PATIENCE_ROUNDS trees without
    an improvement, or at `until` on the monotonic clock.
    """
    from recsys.model.lightgbm_alone import lgb

    fold_of = np.random.default_rng(seed).permutation(len(labelled.ranks)) % FOLDS
    folds = [np.flatnonzero(fold_of == fold) for fold in range(FOLDS)]
    boosters = [
        lgb.Booster({**PARAMETERS, "seed": seed}, _dataset(labelled, np.flatnonzero(fold_of != fold), names))
        for fold in range(FOLDS)
    ]
    unseen = [np.concatenate([labelled.features[user] for user in fold]) for fold in folds]
    scores = [np.zeros(len(rows)) for rows in unseen]
    best = CrossValidation(0, np.full(len(labelled.ranks), -1.0))
    with tqdm(total=MAX_TREES, unit="tree", desc="cross-validation", mininterval=2.0) as progress:
        for num_trees in range(ROUNDS_PER_LOOK, MAX_TREES + 1, ROUNDS_PER_LOOK):
            gains = np.empty(len(labelled.ranks))
            for fold, booster, rows, score in zip(folds, boosters, unseen, scores, strict=True):
                for _ in range(ROUNDS_PER_LOOK):
                    booster.update()
                first = num_trees - ROUNDS_PER_LOOK
                score += booster.predict(rows, start_iteration=first, num_iteration=ROUNDS_PER_LOOK)
                gains[fold] = ndcg_gains(np.fromiter(_ranks(score, labelled, fold), np.float64), 10)
            progress.update(ROUNDS_PER_LOOK)
            if gains.mean() > best.gains.mean():
                best = CrossValidation(num_trees, gains)
            if num_trees - best.num_trees >= PATIENCE_ROUNDS or time.monotonic() > until:
                break
    return best


def _retrieve(examples: list[Example], retrieval: ExactRetrieval) -> list[Retrieved]:
    return retrieval.search([history for history, _ in examples])[1]


def _ranks(scores: NDArray[np.float64], labelled: Labelled, users: NDArray[np.int64]) -> Iterator[float]:
    """Each user's rank of the next item. scores holds the users' candidates, one user after another."""
    start = 0
    for user in users:
        labels = labelled.labels[user]
        own = scores[start : start + len(labels)]
        start += len(labels)
        target = own[labels.argmax()]
        yield 1.0 + (own > target).sum() + ((own == target).sum() - 1) / 2.0


def _fit(labelled: Labelled, names: list[str], seed: int, num_trees: int) -> "lgb.Booster":
    from recsys.model.lightgbm_alone import lgb

    dataset = _dataset(labelled, np.arange(len(labelled.ranks)), names)
    return lgb.train({**PARAMETERS, "seed": seed}, dataset, num_trees)


def _dataset(labelled: Labelled, users: NDArray[np.int64], names: list[str]) -> "lgb.Dataset":
    from recsys.model.lightgbm_alone import lgb

    return lgb.Dataset(
        np.concatenate([labelled.features[user] for user in users]),
        np.concatenate([labelled.labels[user] for user in users]),
        group=[len(labelled.labels[user]) for user in users],
        feature_name=names,
        params=PARAMETERS,
    )


def _mean_and_error(differences: NDArray[np.float64], num_users: int) -> tuple[float, float]:
    """The mean over `num_users` users and its standard error. Users without a value in `differences` count as 0."""
    mean = differences.sum() / num_users
    variance = np.square(differences).sum() / num_users - mean**2
    return float(mean), float(np.sqrt(max(variance, 0.0) / num_users))


def _helps(lift: float, standard_error: float) -> bool:
    """Whether the 95% interval of the lift lies above 0."""
    return lift > 1.96 * standard_error


def _save(directory: Path, tables: RankingTables, trees: "lgb.Booster") -> None:
    tables.save(directory)
    with atomic_file(directory / SECOND_STAGE_FILE) as path:
        path.write_text(trees.model_to_string(), encoding="utf-8")
