"""A scorer that ranks like a request: retrieval by the towers, then the second stage."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.candidates import TOWERS
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.candidate_sources import CandidateSources
from recsys.model.ranking_features import RankingFeatures
from recsys.model.ranking_tables import RankingTables
from recsys.model.second_stage import SecondStage
from recsys.model.sources import Source
from recsys.model.two_tower import TwoTower
from training.datasets.sequences import Example, History
from training.models.candidate_retrieval import CandidateRetrieval
from training.models.exact_retrieval import ExactRetrieval


class TwoStageScorer:
    """The candidates come first, in the order of the second stage; all other items follow in the towers' order."""

    def __init__(self, model: TwoTower, directory: Path, *, exclude_seen: bool) -> None:
        towers = ExactRetrieval(model, exclude_seen=exclude_seen)
        tables = RankingTables.load(directory)
        sources = CandidateSources(tables, exclude_seen=exclude_seen)
        self._counts: list[int] = tables.sources.tolist()
        self._retrieval = CandidateRetrieval(towers, sources, max_history=model.config.max_history)
        features = RankingFeatures(tables, towers.candidate_embeddings, model.content.cpu().numpy())
        self._second_stage = SecondStage.load(directory, features)
        self.num_items = towers.num_items

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        return self.scores_without(histories, histories)

    def scores_without(self, histories: list[History], seen: list[History]) -> NDArray[np.float32]:
        scores, found = self._retrieval.search(histories, seen)
        for row, history, candidates in zip(scores, histories, found, strict=True):
            steps = self._retrieval.steps(history)
            ranked = self._second_stage.score(steps, candidates.items, candidates.query_embedding)
            # Positions instead of scores, because the scores of the two stages are not comparable.
            order = np.argsort(-ranked, kind="stable")
            highest = row.max()
            row[candidates.items[order] - 1] = highest + np.arange(NUM_CANDIDATES, NUM_CANDIDATES - len(order), -1)
        return scores

    def source_recall(self, examples: list[Example], seen: list[History]) -> dict[str, Any]:
        """How many candidates each source may contribute, and its recall on the examples."""
        counts = dict(zip(map(str, Source), self._counts, strict=True))
        return {
            "counts": {TOWERS: NUM_CANDIDATES - sum(self._counts), **counts},
            "recall": self._retrieval.source_ranks(examples, seen).recall(self._counts),
        }
