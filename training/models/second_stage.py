"""Fit the second stage on the validation part, and keep it only if it improves the ranking significantly.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART") over the candidates of the towers and of the other
sources. The lift over the towers alone is cross-validated: every user is scored by trees that were fitted without that
user. Test items are not used.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.feature_distribution import FeatureDistribution
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
from recsys.model.sources import Source
from recsys.model.two_tower import load_model
from training.atomic import atomic_file
from training.datasets.sequences import Sequences
from training.datasets.walk_forward import ITEMS_PER_WINDOW, WINDOWS, PastExample, before_the_test, past_examples
from training.evaluation.metrics import ndcg_gains
from training.models.activity_log import ActivityLog
from training.models.exact_retrieval import ExactRetrieval
from training.models.moments import MOST as MOST_MOMENTS
from training.models.moments import Moments
from training.models.ranking_tables import ranking_tables
from training.models.source_counts import CHOICES, LEAST_RETRIEVED, choose_source_counts

if TYPE_CHECKING:
    # Importing them takes seconds, so the functions that need them do. Every job that asks for a fingerprint gets here.
    from recsys.model.lightgbm_alone import lgb
    from recsys.model.ranking_features import RankingFeatures
    from training.models.candidate_retrieval import CandidateRetrieval

FOLDS = 5
MIN_USERS = 30
"""No second stage is fitted with fewer users whose item is among the candidates."""
MAX_EXAMPLES = 10_000
MAX_TREES = 300
ROUNDS_PER_LOOK = 5
PATIENCE_ROUNDS = 25
FEATURES_SHARE = 0.35
"""The share of the time after the tables for computing features. The rest is for the trees."""
FINAL_FIT_SHARE = 0.8
"""The share of the time budget after which cross-validation ends. The rest is for the final fit."""
EXAMPLES_PER_CHUNK = 128
OTHERS_SHARE = 0.5
"""The share of the candidates that did not come next which trees are fitted on. The ranking is as good as with all of
them, in half the time."""
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # the folds grow beside each other, and threads that share a tree wait for each other
    "verbose": -1,
}


@dataclass(frozen=True)
class Labelled:
    """Examples whose target is among their candidates."""

    features: list[NDArray[np.float32]]
    """Per example [candidates, features]."""
    labels: list[NDArray[np.int8]]
    """Per example [candidates], 1 for the item that came next."""
    ranks: NDArray[np.float64]
    """[examples]: rank of that item by the towers alone, from 1; infinite if they do not retrieve it."""
    users: NDArray[np.int64]
    """[examples]"""
    num_examples: int
    """Including those whose target is not among the candidates."""

    @property
    def num_users_found(self) -> int:
        return len(np.unique(self.users))


@dataclass(frozen=True)
class CrossValidation:
    num_trees: int
    gains: NDArray[np.float64]
    """[examples]: NDCG@10 by trees that were fitted on the other folds."""


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
        "max_examples": MAX_EXAMPLES,
        "windows": WINDOWS,
        "items_per_window": ITEMS_PER_WINDOW,
        "most_moments": MOST_MOMENTS,
        "sources": list(Source),
        "source_choices": CHOICES,
        "least_retrieved": LEAST_RETRIEVED,
        "max_trees": MAX_TREES,
        "rounds_per_look": ROUNDS_PER_LOOK,
        "patience_rounds": PATIENCE_ROUNDS,
        "others_share": OTHERS_SHARE,
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
    from recsys.model.candidate_sources import CandidateSources
    from recsys.model.ranking_features import RankingFeatures, compile_features
    from training.models.candidate_retrieval import CandidateRetrieval

    compile_features()  # not at the expense of the budget
    started = time.monotonic()
    model = load_model(towers)
    activity = ActivityLog(sequences)
    cuts = sequences.split.cuts
    known_until = activity.end if cuts is None else cuts[1]
    tables = ranking_tables(sequences, catalogue, activity.as_of(known_until))
    retrieval = ExactRetrieval(model, exclude_seen=exclude_seen)
    features = RankingFeatures(tables, retrieval.candidate_embeddings, model.content.numpy())
    examples = past_examples(sequences, seed, MAX_EXAMPLES)
    max_history = model.config.max_history
    moments = Moments(activity, examples)
    chosen, recall = choose_source_counts(examples, moments, retrieval, tables, max_history=max_history)
    tables = replace(tables, sources=chosen)
    sources = CandidateSources(tables, exclude_seen=exclude_seen)
    candidates = CandidateRetrieval(retrieval, sources, max_history=max_history)
    # The tables of a large log take a minute or more.
    ready = time.monotonic()
    features_until = ready + FEATURES_SHARE * (started + budget_seconds - ready)
    labelled = label(examples, candidates, features, moments, features_until)
    if labelled.num_users_found < MIN_USERS:
        return {"shipped": False, "outcome": f"no second stage: {labelled.num_users_found} users are too few"}
    validated = cross_validate(labelled, FEATURE_NAMES, seed, started + FINAL_FIT_SHARE * budget_seconds)
    before = ndcg_gains(labelled.ranks, 10)
    lift, error = _mean_and_error(validated.gains - before, labelled)
    shipped = _helps(lift, error)
    if shipped:
        if cuts is not None:
            # Served, and tested, with the counts of everything before the test.
            known = ranking_tables(before_the_test(sequences), catalogue, tables.activity)
            tables = replace(known, sources=chosen)
        distribution = FeatureDistribution.of(labelled.features)
        tables = replace(tables, activity_base=activity.base(known_until), feature_distribution=distribution)
        _save(output, tables, _fit(labelled, FEATURE_NAMES, seed, validated.num_trees))
    found = f"second stage of {validated.num_trees} trees: {lift:+.4f} (standard error {error:.4f})"
    return {
        "shipped": shipped,
        "outcome": found if shipped else f"no second stage, because it does not help: {lift:+.4f} ({error:.4f})",
        "num_examples": labelled.num_examples,
        "num_examples_found": len(labelled.ranks),
        "num_users_found": labelled.num_users_found,
        "sources": {str(source): int(count) for source, count in zip(Source, chosen, strict=True)},
        "recall": recall,
        "num_trees": validated.num_trees,
        "validation_ndcg_at_10_before": float(before.sum() / labelled.num_examples),
        "validation_ndcg_at_10": float(validated.gains.sum() / labelled.num_examples),
        "lift": lift,
        "lift_standard_error": error,
        "seconds": round(time.monotonic() - started, 1),
        "parameters": PARAMETERS,
    }


def label(
    examples: list[PastExample],
    retrieval: "CandidateRetrieval",
    features: "RankingFeatures",
    moments: Moments,
    until: float,
) -> Labelled:
    """The features of all candidates, for as many examples as possible before `until` on the monotonic clock."""
    matrices: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int8]] = []
    ranks: list[float] = []
    users: list[int] = []
    num_examples = 0
    sources_at = [retrieval.sources.at(activity) for activity in moments.activities]
    features_at = [features.at(activity) for activity in moments.activities]
    with tqdm(total=len(examples), unit="example", desc="features", mininterval=2.0) as progress:
        for start in range(0, len(examples), EXAMPLES_PER_CHUNK):
            if time.monotonic() > until and ranks:
                break
            chunk = examples[start : start + EXAMPLES_PER_CHUNK]
            places = [moments.place_of(example) for example in chunk]
            histories, seen = [example.history for example in chunk], [example.seen for example in chunk]
            _, found = retrieval.search(histories, seen, [sources_at[place] for place in places])
            for example, place, candidates in zip(chunk, places, found, strict=True):
                num_examples += 1
                is_next = candidates.items == example.target
                if is_next.any():
                    steps = retrieval.steps(example.history)
                    matrix = features_at[place].matrix(steps, candidates.items, candidates.query_embedding)
                    matrices.append(matrix)
                    labels.append(is_next.astype(np.int8))
                    at = np.flatnonzero(candidates.retrieved == example.target)
                    ranks.append(float(at[0] + 1) if len(at) else np.inf)
                    users.append(example.user)
            progress.update(len(chunk))
    return Labelled(matrices, labels, np.array(ranks), np.array(users, dtype=np.int64), num_examples)


def cross_validate(labelled: Labelled, names: list[str], seed: int, until: float) -> CrossValidation:
    """Grow the trees of all folds side by side, and rank each fold by the trees that were fitted without it.

    The number of trees is the one with the best mean over all folds. Growing ends after PATIENCE_ROUNDS trees without
    an improvement, or at `until` on the monotonic clock.
    """
    from recsys.model.lightgbm_alone import lgb

    users, of_user = np.unique(labelled.users, return_inverse=True)
    fold_of = (np.random.default_rng(seed).permutation(len(users)) % FOLDS)[of_user]
    folds = [np.flatnonzero(fold_of == fold) for fold in range(FOLDS)]
    boosters = [
        lgb.Booster({**PARAMETERS, "seed": seed}, _dataset(labelled, np.flatnonzero(fold_of != fold), names, seed))
        for fold in range(FOLDS)
    ]
    unseen = [np.concatenate([labelled.features[example] for example in fold]) for fold in folds]
    scores = [np.zeros(len(rows)) for rows in unseen]
    best = CrossValidation(0, np.full(len(labelled.ranks), -1.0))

    def grow(fold: int) -> None:
        first = boosters[fold].current_iteration()
        for _ in range(ROUNDS_PER_LOOK):
            boosters[fold].update()
        scores[fold] += boosters[fold].predict(unseen[fold], start_iteration=first, num_iteration=ROUNDS_PER_LOOK)

    with (
        ThreadPoolExecutor(min(FOLDS, len(os.sched_getaffinity(0)))) as threads,  # LightGBM releases the GIL
        tqdm(total=MAX_TREES, unit="tree", desc="cross-validation", mininterval=2.0) as progress,
    ):
        for num_trees in range(ROUNDS_PER_LOOK, MAX_TREES + 1, ROUNDS_PER_LOOK):
            list(threads.map(grow, range(FOLDS)))
            gains = np.empty(len(labelled.ranks))
            for fold, score in zip(folds, scores, strict=True):
                gains[fold] = ndcg_gains(np.fromiter(_ranks(score, labelled, fold), np.float64), 10)
            progress.update(ROUNDS_PER_LOOK)
            if gains.mean() > best.gains.mean():
                best = CrossValidation(num_trees, gains)
            if num_trees - best.num_trees >= PATIENCE_ROUNDS or time.monotonic() > until:
                break
    return best


def _ranks(scores: NDArray[np.float64], labelled: Labelled, examples: NDArray[np.int64]) -> Iterator[float]:
    """Each example's rank of its target. scores holds the candidates of one example after another."""
    start = 0
    for example in examples:
        labels = labelled.labels[example]
        own = scores[start : start + len(labels)]
        start += len(labels)
        target = own[labels.argmax()]
        yield 1.0 + (own > target).sum() + ((own == target).sum() - 1) / 2.0


def _fit(labelled: Labelled, names: list[str], seed: int, num_trees: int) -> "lgb.Booster":
    from recsys.model.lightgbm_alone import lgb

    dataset = _dataset(labelled, np.arange(len(labelled.ranks)), names, seed)
    return lgb.train({**PARAMETERS, "seed": seed}, dataset, num_trees)


def _dataset(labelled: Labelled, examples: NDArray[np.int64], names: list[str], seed: int) -> "lgb.Dataset":
    from recsys.model.lightgbm_alone import lgb

    random = np.random.default_rng(seed)
    kept = [
        np.flatnonzero((labelled.labels[example] == 1) | (random.random(len(labelled.labels[example])) < OTHERS_SHARE))
        for example in examples
    ]
    return lgb.Dataset(
        np.concatenate([labelled.features[example][rows] for example, rows in zip(examples, kept, strict=True)]),
        np.concatenate([labelled.labels[example][rows] for example, rows in zip(examples, kept, strict=True)]),
        group=[len(rows) for rows in kept],
        feature_name=names,
        params=PARAMETERS,
    )


def _mean_and_error(differences: NDArray[np.float64], labelled: Labelled) -> tuple[float, float]:
    """The mean over all examples and its standard error. Examples whose target is not among the candidates count as 0.

    A user's examples are alike, so they are one cluster: the error is that of the users' sums.
    """
    of_users = np.bincount(np.unique(labelled.users, return_inverse=True)[1], differences)
    error = np.sqrt(np.square(of_users).sum()) / labelled.num_examples
    return float(differences.sum() / labelled.num_examples), float(error)


def _helps(lift: float, standard_error: float) -> bool:
    """Whether the 95% interval of the lift lies above 0."""
    return lift > 1.96 * standard_error


def _save(directory: Path, tables: RankingTables, trees: "lgb.Booster") -> None:
    tables.save(directory)
    with atomic_file(directory / SECOND_STAGE_FILE) as path:
        path.write_text(trees.model_to_string(), encoding="utf-8")
