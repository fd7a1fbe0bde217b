"""The candidates of a request, as in serving: those of the towers, by exact search, and those of the other sources."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.candidates import merged, of_other_sources
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.candidate_sources import CandidateSources
from training.datasets.sequences import Example, History
from training.models.exact_retrieval import ExactRetrieval
from training.models.source_ranks import SourceRanks, source_ranks


class Candidates(NamedTuple):
    query_embedding: NDArray[np.float32]
    """[embedding_dim]"""
    items: NDArray[np.int64]
    """[at most NUM_CANDIDATES] item indices."""
    retrieved: NDArray[np.int64]
    """[at most NUM_CANDIDATES] item indices: what the towers alone would retrieve, best first."""


class CandidateRetrieval:
    def __init__(self, towers: ExactRetrieval, sources: CandidateSources, *, max_history: int) -> None:
        self._towers = towers
        self.sources = sources
        self._max_history = max_history

    def steps(self, history: History) -> NDArray[np.int64]:
        """The part of a history that the model uses."""
        return history[-self._max_history :].astype(np.int64)

    def source_ranks(self, examples: list[Example], seen: list[History]) -> SourceRanks:
        """Of all sources, on examples of the end of the log."""
        sources = [self.sources] * len(examples)
        return source_ranks(examples, sources, self._towers, max_history=self._max_history, seen=seen)

    def search(
        self,
        histories: list[History],
        seen: list[History] | None = None,
        sources: Sequence[CandidateSources] | None = None,
    ) -> tuple[NDArray[np.float32], list[Candidates]]:
        """-> the towers' scores of all items [histories, num_items], -inf for excluded items, and the candidates.

        seen: the items of each history that count as seen; by default all.
        sources: those of each history, if they are of another moment than the end of the log.
        """
        seen = histories if seen is None else seen
        scores, retrieved = self._towers.search(histories, seen)
        found = []
        for place, (history, (query_embedding, nearest)) in enumerate(zip(histories, retrieved, strict=True)):
            excluded = set(seen[place].tolist()) if self._towers.exclude_seen else set()
            proposed = (self.sources if sources is None else sources[place]).find(self.steps(history), seen[place])
            others = of_other_sources([items.tolist() for items in proposed.values()], excluded)
            items = merged(nearest[: NUM_CANDIDATES - len(others)].tolist(), others)
            found.append(Candidates(query_embedding, np.array(items, dtype=np.int64), nearest))
        return scores, found
