"""LambdaMART trees (Burges 2010, "From RankNet to LambdaRank to LambdaMART") that rank the candidates of examples."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.evaluation.metrics import ndcg_gains

if TYPE_CHECKING:
    from recsys.model.lightgbm_alone import lgb  # importing it takes seconds, so the functions that need it do

FOLDS = 5
MAX_TREES = 300
ROUNDS_PER_LOOK = 5
PATIENCE_ROUNDS = 25
OTHERS_SHARE = 0.5
"""The share of the candidates that did not come next which trees are fitted on. They rank as well as with all of them,
and grow in 60% of the time."""
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
    "num_threads": 1,  # the folds grow side by side; threads that share a tree would wait for each other
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
    places: NDArray[np.int64]
    """[examples]: the place of each among all examples."""
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


class RankingTrees:
    """Fits trees on labelled examples; `names` are those of the features."""

    def __init__(self, labelled: Labelled, names: list[str], seed: int) -> None:
        from recsys.model.lightgbm_alone import lgb

        sizes = [len(labels) for labels in labelled.labels]
        self._labelled = labelled
        self._features = np.concatenate(labelled.features)
        self._labels = np.concatenate(labelled.labels)
        self._example_of = np.repeat(np.arange(len(sizes)), sizes)
        self._fitted_on = (self._labels == 1) | (np.random.default_rng(seed).random(len(self._labels)) < OTHERS_SHARE)
        self._parameters = {**PARAMETERS, "seed": seed}
        self._seed = seed
        # The trees of all folds share what takes longest: the bins of the features.
        self._rows = lgb.Dataset(
            self._features, self._labels, group=sizes, feature_name=names, params=self._parameters
        ).construct()

    def cross_validate(self, until: float) -> CrossValidation:
        """Grow the trees of all folds side by side, and rank each fold by the trees that were fitted without it.

        The number of trees is the one with the best mean over all folds. Growing ends after PATIENCE_ROUNDS trees
        without an improvement, or at `until` on the monotonic clock.
        """
        from recsys.model.lightgbm_alone import lgb

        users, of_user = np.unique(self._labelled.users, return_inverse=True)
        fold_of = (np.random.default_rng(self._seed).permutation(len(users)) % FOLDS)[of_user]
        folds = [np.flatnonzero(fold_of == fold) for fold in range(FOLDS)]
        row_folds = fold_of[self._example_of]
        boosters = [lgb.Booster(self._parameters, self._subset(row_folds != fold)) for fold in range(FOLDS)]
        unseen = [self._features[row_folds == fold] for fold in range(FOLDS)]
        scores = [np.zeros(len(rows)) for rows in unseen]
        best = CrossValidation(0, np.full(len(fold_of), -1.0))

        def grow(fold: int) -> None:
            first = boosters[fold].current_iteration()
            for _ in range(ROUNDS_PER_LOOK):
                boosters[fold].update()
            scores[fold] += boosters[fold].predict(
                unseen[fold], start_iteration=first, num_iteration=ROUNDS_PER_LOOK, num_threads=1
            )

        with (
            ThreadPoolExecutor(min(FOLDS, len(os.sched_getaffinity(0)))) as threads,  # LightGBM releases the GIL
            tqdm(total=MAX_TREES, unit="tree", desc="cross-validation", mininterval=2.0) as progress,
        ):
            for num_trees in range(ROUNDS_PER_LOOK, MAX_TREES + 1, ROUNDS_PER_LOOK):
                list(threads.map(grow, range(FOLDS)))
                gains = np.empty(len(fold_of))
                for fold, score in zip(folds, scores, strict=True):
                    gains[fold] = ndcg_gains(np.fromiter(self._ranks(score, fold), np.float64), 10)
                progress.update(ROUNDS_PER_LOOK)
                if gains.mean() > best.gains.mean():
                    best = CrossValidation(num_trees, gains)
                if num_trees - best.num_trees >= PATIENCE_ROUNDS or time.monotonic() > until:
                    break
        return best

    def fit(self, num_trees: int) -> "lgb.Booster":
        """As many trees on all examples."""
        from recsys.model.lightgbm_alone import lgb

        return lgb.train(self._parameters, self._subset(np.ones(len(self._labels), dtype=np.bool_)), num_trees)

    def _subset(self, chosen: NDArray[np.bool_]) -> "lgb.Dataset":
        """What trees are fitted on, among the chosen rows [rows]."""
        return self._rows.subset(np.flatnonzero(chosen & self._fitted_on).tolist())

    def _ranks(self, scores: NDArray[np.float64], examples: NDArray[np.int64]) -> Iterator[float]:
        """Each example's rank of its target. scores holds the candidates of one example after another."""
        start = 0
        for example in examples:
            labels = self._labelled.labels[example]
            own = scores[start : start + len(labels)]
            start += len(labels)
            target = own[labels.argmax()]
            yield 1.0 + (own > target).sum() + ((own == target).sum() - 1) / 2.0
