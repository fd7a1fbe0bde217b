"""Choose how many candidates each source contributes: the numbers with the highest recall within the budget."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.ranking_tables import RankingTables
from recsys.model.sources import MAX_PER_SOURCE, Source
from training.datasets.walk_forward import PastExample
from training.models.exact_retrieval import ExactRetrieval
from training.models.moments import Moments

CHOICES = (0, 20, 40, 60, 80)
LEAST_RETRIEVED = 60
"""Candidates that the towers keep at least. Only they find what nobody has counted yet."""
MOST_OF_OTHERS = NUM_CANDIDATES - LEAST_RETRIEVED
MAX_EXAMPLES = 1_000
CHUNK = 128


def choose_source_counts(
    examples: list[PastExample], moments: Moments, towers: ExactRetrieval, tables: RankingTables, *, max_history: int
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """[sources], in the order of `Source`, and the recall of each source and of all together.

    The recall is the share of at most MAX_EXAMPLES examples whose target is among the candidates.
    """
    from recsys.model.candidate_sources import CandidateSources  # takes long to import

    every = np.full(len(Source), MAX_PER_SOURCE)
    at_end = CandidateSources(replace(tables, sources=every), exclude_seen=towers.exclude_seen)
    sources = [at_end.at(activity) for activity in moments.activities]
    chosen_examples = examples[:MAX_EXAMPLES]
    by_towers = np.full(len(chosen_examples), np.inf)
    by_source = np.full((len(Source), len(chosen_examples)), np.inf)
    for start in range(0, len(chosen_examples), CHUNK):
        chunk = chosen_examples[start : start + CHUNK]
        _, retrieved = towers.search([example.history for example in chunk])
        for place, (example, found) in enumerate(zip(chunk, retrieved, strict=True), start=start):
            by_towers[place] = _rank(found.candidates, example.target)
            proposed = sources[moments.place_of(example)].find(example.history[-max_history:].astype(np.int64))
            for row, source in enumerate(Source):
                by_source[row, place] = _rank(proposed[source], example.target)

    def recall_of(counts: tuple[int, ...]) -> float:
        found = by_towers <= NUM_CANDIDATES - sum(counts)
        for ranks, count in zip(by_source, counts, strict=True):
            found |= ranks <= count
        return float(found.mean())

    allowed = [counts for counts in product(CHOICES, repeat=len(Source)) if sum(counts) <= MOST_OF_OTHERS]
    best = max(allowed, key=lambda counts: (recall_of(counts), -sum(counts)))
    recall = {str(source): float((by_source[row] <= best[row]).mean()) for row, source in enumerate(Source)}
    recall |= {"towers": float((by_towers <= NUM_CANDIDATES - sum(best)).mean()), "all": recall_of(best)}
    return np.array(best), {**recall, "towers_alone": float((by_towers <= NUM_CANDIDATES).mean())}


def _rank(items: NDArray[np.int64], target: int) -> float:
    """From 1; infinite if the target is not among the items."""
    at = np.flatnonzero(items == target)
    return float(at[0] + 1) if len(at) else np.inf
