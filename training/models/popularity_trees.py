"""A second stage that ranks by recent popularity, for logs that are too small to learn more from.

Across a cut in time, what everybody took lately can tell more than what a few dozen users did. The trees are fitted to
one feature instead of examples, so that this is served, and follows live events, like any other second stage.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.model.item_activity import ACTIVITY_NAMES
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.sources import MAX_PER_SOURCE, Source
from training.datasets.walk_forward import PastExample
from training.evaluation.metrics import ndcg_gains, target_ranks
from training.models.exact_retrieval import ExactRetrieval
from training.models.moments import Moments

if TYPE_CHECKING:
    from recsys.model.lightgbm_alone import lgb

FEATURES = ("log_share_7", "log_share_30")
"""What may be ranked by."""
SOURCE_COUNTS = tuple(MAX_PER_SOURCE if source is Source.TRENDING else 0 for source in Source)
"""The candidates besides those of the towers."""
MAX_USERS = 1_000
USERS_PER_CHUNK = 64
NUM_TREES = 50
PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.5,
    "num_leaves": 255,
    "min_data_in_leaf": 1,
    "min_data_in_bin": 1,
    "max_bin": 4095,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""So many leaves tell the most popular items apart."""


def popularity_settings() -> dict[str, Any]:
    return {
        "features": FEATURES,
        "sources": SOURCE_COUNTS,
        "most_users": MAX_USERS,
        "trees": NUM_TREES,
        "parameters": PARAMETERS,
    }


class FirstItemGains(NamedTuple):
    """NDCG@10 on the first validation item of each user, as in the test. Items of one evening are alike, and a few
    users with many of them would decide."""

    places: NDArray[np.int64]
    """[users]: of the examples."""
    towers: NDArray[np.float64]
    """[users]"""
    popularity: dict[str, NDArray[np.float64]]
    """[users] by feature; none if the log has no times."""

    @property
    def best_feature(self) -> str | None:
        return max(self.popularity, key=lambda feature: self.popularity[feature].mean(), default=None)

    def popularity_is_better_than(self, learned: NDArray[np.float64] | None) -> bool:
        """learned [examples]: the NDCG@10 of a second stage that was learned; None if only the towers are left.

        Popularity was not fitted to these users, so a better mean is enough.
        """
        feature = self.best_feature
        if feature is None:
            return False
        others = self.towers if learned is None else learned[self.places]
        return bool(self.popularity[feature].mean() > others.mean())


def first_item_gains(examples: list[PastExample], moments: Moments, towers: ExactRetrieval) -> FirstItemGains:
    """Of the towers and of recent popularity, both without training, for at most MAX_USERS users."""
    places = first_of_each_user(examples)[:MAX_USERS]
    of_towers = np.empty(len(places))
    popularity = {feature: np.empty(len(places)) for feature in FEATURES}
    for start in range(0, len(places), USERS_PER_CHUNK):
        chunk = slice(start, start + USERS_PER_CHUNK)
        of_chunk = [examples[place] for place in places[chunk]]
        scores, _ = towers.search([example.history for example in of_chunk], [example.seen for example in of_chunk])
        targets = np.array([example.target for example in of_chunk]) - 1
        of_towers[chunk] = _gains(scores, targets)
        excluded = np.isneginf(scores)
        activities = [moments.activities[moments.place_of(example)] for example in of_chunk]
        for feature, gains in popularity.items():
            shares = np.stack([activity[1:, ACTIVITY_NAMES.index(feature)] for activity in activities])
            gains[chunk] = _gains(np.where(excluded, -np.inf, shares), targets)
    known = all(np.isfinite(activity[1:, 0]).all() for activity in moments.activities)
    return FirstItemGains(places, of_towers, popularity if known else {})


def first_of_each_user(examples: list[PastExample]) -> NDArray[np.int64]:
    """The place of each user's earliest example, ascending."""
    users = np.array([example.user for example in examples])
    lengths = np.array([len(example.history) for example in examples])
    by_time = np.lexsort((lengths, users))
    return np.sort(by_time[np.unique(users[by_time], return_index=True)[1]])


def popularity_trees(feature: str, moments: Moments) -> "lgb.Booster":
    """Trees whose score is the value of the feature."""
    from recsys.model.lightgbm_alone import lgb

    column = ACTIVITY_NAMES.index(feature)
    values = np.unique(np.concatenate([activity[1:, column] for activity in moments.activities]))
    features = np.zeros((len(values), len(FEATURE_NAMES)), dtype=np.float32)
    features[:, FEATURE_NAMES.index(feature)] = values
    return lgb.train(PARAMETERS, lgb.Dataset(features, values, feature_name=FEATURE_NAMES), NUM_TREES)


def _gains(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """scores [users, items], -inf for excluded items; targets [users] as columns."""
    ranks = target_ranks(scores, targets)
    excluded = np.isneginf(scores[np.arange(len(targets)), targets])
    return ndcg_gains(np.where(excluded, np.inf, ranks), 10)
