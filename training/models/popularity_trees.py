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
from recsys.model.two_tower import TwoTower
from training.datasets.walk_forward import PastExample
from training.evaluation.metrics import ndcg_gains
from training.evaluation.ranking import TwoTowerScorer, rank_by_shared_scores, ranks_of_held_out
from training.models.moments import Moments

if TYPE_CHECKING:
    from recsys.model.lightgbm_alone import lgb

FEATURES = ("log_share_7", "log_share_30")
"""What may be ranked by."""
SOURCE_COUNTS = tuple(MAX_PER_SOURCE if source is Source.TRENDING else 0 for source in Source)
"""The candidates besides those of the towers."""
MAX_USERS = 1_000
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


def first_item_gains(
    examples: list[PastExample], moments: Moments, model: TwoTower, *, exclude_seen: bool
) -> FirstItemGains:
    """Of the towers and of recent popularity, both without training, for at most MAX_USERS users."""
    places = first_of_each_user(examples)[:MAX_USERS]
    firsts = [examples[place] for place in places]
    held_out, seen = [(each.history, each.target) for each in firsts], [each.seen for each in firsts]
    towers = ranks_of_held_out(TwoTowerScorer(model), held_out, exclude_seen, seen=seen)
    popularity = {feature: np.empty(len(firsts)) for feature in FEATURES}
    moment_of = np.array([moments.place_of(each) for each in firsts])
    for moment in np.unique(moment_of):
        at = np.flatnonzero(moment_of == moment)
        for feature, ranks in popularity.items():
            shares = moments.activities[moment][1:, ACTIVITY_NAMES.index(feature)]
            found = rank_by_shared_scores(shares, [held_out[i] for i in at], exclude_seen, [seen[i] for i in at])
            ranks[at] = found.ranks
    gains = {feature: ndcg_gains(ranks, 10) for feature, ranks in popularity.items()}
    known = all(np.isfinite(activity[1:, 0]).all() for activity in moments.activities)
    return FirstItemGains(places, ndcg_gains(towers, 10), gains if known else {})


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
