"""A scorer that ranks like a request: retrieval by the towers, then the second stage."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.ranking_features import RankingFeatures
from recsys.model.ranking_tables import RankingTables
from recsys.model.second_stage import SecondStage
from recsys.model.two_tower import TwoTower
from training.datasets.sequences import History
from training.models.exact_retrieval import ExactRetrieval


class TwoStageScorer:
    """The candidates come first, in the order of the second stage; all other items follow in the towers' order."""

    def __init__(self, model: TwoTower, directory: Path, *, exclude_seen: bool) -> None:
        self._retrieval = ExactRetrieval(model, exclude_seen=exclude_seen)
        self._max_history = model.config.max_history
        features = RankingFeatures(
            RankingTables.load(directory), self._retrieval.candidate_embeddings, model.content.cpu().numpy()
        )
        self._second_stage = SecondStage.load(directory, features)
        self.num_items = self._retrieval.num_items

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        scores, retrieved = self._retrieval.search(histories)
        for row, history, found in zip(scores, histories, retrieved, strict=True):
            steps = history[-self._max_history :].astype(np.int64)
            ranked = self._second_stage.score(steps, found.candidates, found.query_embedding)
            # Positions instead of scores, because the scores of the two stages are not comparable.
            order = np.argsort(-ranked, kind="stable")
            highest = row.max()
            row[found.candidates[order] - 1] = highest + np.arange(NUM_CANDIDATES, NUM_CANDIDATES - len(order), -1)
        return scores
