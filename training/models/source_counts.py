"""Choose how many candidates each source contributes: the numbers with the highest recall within the budget."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.ranking_tables import RankingTables
from recsys.model.sources import MAX_PER_SOURCE, Source
from training.datasets.walk_forward import PastExample
from training.models.exact_retrieval import ExactRetrieval
from training.models.moments import Moments
from training.models.source_ranks import source_ranks

CHOICES = (0, 20, 40, 60, 80)
LEAST_RETRIEVED = 60
"""Candidates that the towers keep at least. Only they find what nobody has counted yet."""
MOST_OF_OTHERS = NUM_CANDIDATES - LEAST_RETRIEVED
ALL_CHOICES = [counts for counts in product(CHOICES, repeat=len(Source)) if sum(counts) <= MOST_OF_OTHERS]
MAX_EXAMPLES = 1_000


def choose_source_counts(
    examples: list[PastExample],
    moments: Moments,
    towers: ExactRetrieval,
    tables: RankingTables,
    *,
    max_history: int,
    allowed: Sequence[tuple[int, ...]] = ALL_CHOICES,
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """The best of the `allowed` numbers [sources], in the order of `Source`, and the recall of each source and of all
    together."""
    from recsys.model.candidate_sources import CandidateSources  # takes long to import

    every = np.full(len(Source), MAX_PER_SOURCE)
    at_end = CandidateSources(replace(tables, sources=every), exclude_seen=towers.exclude_seen)
    at_moments = [at_end.at(activity) for activity in moments.activities]
    chosen = examples[:MAX_EXAMPLES]
    ranks = source_ranks(
        [(example.history, example.target) for example in chosen],
        [at_moments[moments.place_of(example)] for example in chosen],
        towers,
        max_history=max_history,
        seen=[example.seen for example in chosen],
    )
    best = max(allowed, key=lambda counts: (ranks.recall_of_all(counts), -sum(counts)))
    return np.array(best), ranks.recall(best)
