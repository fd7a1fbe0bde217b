"""Fit the second stage on the validation part, and keep it only if it improves the ranking significantly.

The trees of `training.models.ranking_trees` rank the candidates of the towers and of the other sources. The lift over
the towers alone is cross-validated: every user is scored by trees that were fitted without that user. Where recent
popularity is better than both, `training.models.popularity_trees` takes their place. Test items are not used.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from training.models.popularity_trees import (
    SOURCE_COUNTS,
    FirstItemGains,
    first_item_gains,
    popularity_settings,
    popularity_trees,
)
from training.models.ranking_tables import ranking_tables
from training.models.ranking_trees import (
    FOLDS,
    MAX_TREES,
    OTHERS_SHARE,
    PARAMETERS,
    PATIENCE_ROUNDS,
    ROUNDS_PER_LOOK,
    Labelled,
    RankingTrees,
)
from training.models.source_counts import CHOICES, LEAST_RETRIEVED, choose_source_counts

if TYPE_CHECKING:
    # Importing them takes seconds, so the functions that need them do. Every job that asks for a fingerprint gets here.
    from recsys.model.lightgbm_alone import lgb
    from recsys.model.ranking_features import RankingFeatures
    from training.models.candidate_retrieval import CandidateRetrieval

MIN_USERS = 30
"""No second stage is fitted with fewer users whose item is among the candidates."""
MAX_EXAMPLES = 10_000
FEATURES_SHARE = 0.35
"""The share of the time after the tables for computing features. The rest is for the trees."""
FINAL_FIT_SHARE = 0.8
"""The share of the time budget after which cross-validation ends. The rest is for the final fit."""
EXAMPLES_PER_CHUNK = 128


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
        "popularity": popularity_settings(),
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
    choose = partial(choose_source_counts, examples, moments, retrieval, tables, max_history=max_history)
    chosen, recall = choose()
    sources = CandidateSources(replace(tables, sources=chosen), exclude_seen=exclude_seen)
    candidates = CandidateRetrieval(retrieval, sources, max_history=max_history)
    # The tables of a large log take a minute or more.
    ready = time.monotonic()
    features_until = ready + FEATURES_SHARE * (started + budget_seconds - ready)
    labelled = label(examples, candidates, features, moments, features_until)
    fitted = _learned(labelled, seed, started + FINAL_FIT_SHARE * budget_seconds)
    firsts = first_item_gains(examples[: labelled.num_examples], moments, model, exclude_seen=exclude_seen)
    if firsts.popularity_is_better_than(fitted.gains):
        chosen, recall = choose(allowed=[SOURCE_COUNTS])
        fitted = _by_popularity(firsts, moments)
    if fitted.trees is not None:
        if cuts is not None:
            # Served, and tested, with the counts of everything before the test.
            tables = ranking_tables(before_the_test(sequences), catalogue, tables.activity)
        distribution = FeatureDistribution.of(labelled.features) if labelled.features else None
        base = activity.base(known_until)
        _save(
            output,
            replace(tables, sources=chosen, activity_base=base, feature_distribution=distribution),
            fitted.trees,
        )
    return {
        "shipped": fitted.trees is not None,
        "outcome": fitted.outcome,
        "num_examples": labelled.num_examples,
        "num_examples_found": len(labelled.ranks),
        "num_users_found": labelled.num_users_found,
        "sources": {str(source): int(count) for source, count in zip(Source, chosen, strict=True)},
        "recall": recall,
        **fitted.record,
        "seconds": round(time.monotonic() - started, 1),
    }


class Fitted(NamedTuple):
    """A second stage, or why there is none."""

    trees: "lgb.Booster | None"
    outcome: str
    record: dict[str, Any]
    """How it was measured."""
    gains: NDArray[np.float64] | None = None
    """[examples]: NDCG@10 on all examples, by trees that were fitted without the user; None if none was learned."""


def _learned(labelled: Labelled, seed: int, until: float) -> Fitted:
    """Trees that learn from the examples, if they are better than the towers alone."""
    if labelled.num_users_found < MIN_USERS:
        return Fitted(None, f"no second stage: {labelled.num_users_found} users are too few", {})
    trees = RankingTrees(labelled, FEATURE_NAMES, seed)
    validated = trees.cross_validate(until)
    before = ndcg_gains(labelled.ranks, 10)
    lift, error = _mean_and_error(validated.gains - before, labelled)
    record = {
        "parameters": PARAMETERS,
        "num_trees": validated.num_trees,
        "validation_ndcg_at_10_before": float(before.sum() / labelled.num_examples),
        "validation_ndcg_at_10": float(validated.gains.sum() / labelled.num_examples),
        "lift": lift,
        "lift_standard_error": error,
    }
    if not _helps(lift, error):
        return Fitted(None, f"no second stage, because it does not help: {lift:+.4f} ({error:.4f})", record)
    outcome = f"second stage of {validated.num_trees} trees: {lift:+.4f} (standard error {error:.4f})"
    gains = np.zeros(labelled.num_examples)
    gains[labelled.places] = validated.gains
    return Fitted(trees.fit(validated.num_trees), outcome, record, gains)


def _by_popularity(firsts: FirstItemGains, moments: Moments) -> Fitted:
    feature = firsts.best_feature
    assert feature is not None
    ndcg, of_towers = float(firsts.popularity[feature].mean()), float(firsts.towers.mean())
    record = {"validation_ndcg_at_10_before": of_towers, "validation_ndcg_at_10": ndcg, "lift": ndcg - of_towers}
    outcome = (
        f"second stage that ranks by recent popularity ({feature}): NDCG@10 {ndcg:.4f} on the first validation item of "
        f"{len(firsts.places):,} users, {of_towers:.4f} by the towers, and less by what can be learned"
    )
    return Fitted(popularity_trees(feature, moments), outcome, record)


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
    found_at: list[int] = []
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
                    found_at.append(num_examples - 1)
            progress.update(len(chunk))
    return Labelled(
        matrices,
        labels,
        np.array(ranks),
        np.array(users, dtype=np.int64),
        np.array(found_at, dtype=np.int64),
        num_examples,
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
