"""The second stage of ranking: gradient-boosted trees that score the candidates retrieved by the towers.

A release contains the LightGBM model as text, and the tables from which its features are computed.
"""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ReleaseDamaged
from recsys.model.feature_distribution import FeatureSample
from recsys.model.files import SECOND_STAGE_FILE
from recsys.model.item_activity import Activity
from recsys.model.lightgbm_alone import lgb
from recsys.model.neighbours import Indices
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.ranking_features import RankingFeatures


class SecondStage:
    """Scores the candidates of one release. Safe to share between requests."""

    def __init__(self, trees: lgb.Booster, features: RankingFeatures, sample: FeatureSample | None = None) -> None:
        """Offers all features to `sample`."""
        self._trees = trees
        self._features = features
        self._sample = sample

    @classmethod
    def load(cls, directory: Path, features: RankingFeatures, sample: FeatureSample | None = None) -> "SecondStage":
        """Raises ReleaseDamaged if the trees are missing, unreadable, or trained on other features."""
        path = directory / SECOND_STAGE_FILE
        try:
            trees = lgb.Booster(model_str=path.read_text(encoding="utf-8"))
        except (OSError, ValueError, lgb.basic.LightGBMError) as error:
            raise ReleaseDamaged(f"{path} is not a readable second stage: {error}") from error
        if trees.feature_name() != FEATURE_NAMES:
            raise ReleaseDamaged(f"{path} was trained on other features than this version of Tandem computes")
        return cls(trees, features, sample)

    def at(self, activity: Activity) -> Self:
        """The same with another activity of the items."""
        return type(self)(self._trees, self._features.at(activity), self._sample)

    def score(self, history: Indices, candidates: Indices, query_embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """history [steps >= 1] oldest first, candidates [candidates] without repeats -> scores [candidates]."""
        matrix = self._features.matrix(history, candidates, query_embedding)
        if self._sample is not None:
            self._sample.offer(matrix)
        # For a few hundred rows, starting threads costs more than it saves.
        scores: NDArray[np.float64] = np.asarray(self._trees.predict(matrix, num_threads=1), dtype=np.float64)
        return scores
