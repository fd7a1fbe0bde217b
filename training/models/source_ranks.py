"""Where each source of candidates has the item that came next, and so its recall for any number of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.candidates import TOWERS
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.sources import Source
from training.datasets.sequences import Example, History
from training.models.exact_retrieval import ExactRetrieval

if TYPE_CHECKING:
    from recsys.model.candidate_sources import CandidateSources  # takes long to import

ALL = "all"
"""All sources together."""
TOWERS_ALONE = "towers_alone"
"""What the towers would find if they were the only source."""
CHUNK = 128


@dataclass(frozen=True)
class SourceRanks:
    """Ranks from 1; infinite where a source does not have the item."""

    towers: NDArray[np.float64]
    """[examples]"""
    others: NDArray[np.float64]
    """[sources, examples], in the order of `Source`."""

    def recall_of_all(self, counts: Sequence[int]) -> float:
        """The share of the examples whose item some source has. The towers fill up what `counts` leave."""
        found = self.towers <= NUM_CANDIDATES - sum(counts)
        for ranks, count in zip(self.others, counts, strict=True):
            found |= ranks <= count
        return float(found.mean())

    def recall(self, counts: Sequence[int]) -> dict[str, float]:
        """By source: the share of the examples whose item it has, whether or not another source has it too."""
        by_source = zip(Source, self.others, counts, strict=True)
        return {
            **{str(source): float((ranks <= count).mean()) for source, ranks, count in by_source},
            TOWERS: float((self.towers <= NUM_CANDIDATES - sum(counts)).mean()),
            ALL: self.recall_of_all(counts),
            TOWERS_ALONE: float((self.towers <= NUM_CANDIDATES).mean()),
        }


def source_ranks(
    examples: Sequence[Example],
    sources: Sequence["CandidateSources"],
    towers: ExactRetrieval,
    *,
    max_history: int,
    seen: Sequence[History] | None = None,
) -> SourceRanks:
    """sources: those of each example. Where seen items are excluded, no source has a seen one.

    seen: the items of each history that count as seen; by default all.
    """
    seen = [history for history, _ in examples] if seen is None else seen
    by_towers = np.full(len(examples), np.inf)
    by_source = np.full((len(Source), len(examples)), np.inf)
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        _, retrieved = towers.search([history for history, _ in chunk], list(seen[start : start + CHUNK]))
        for place, ((history, target), found) in enumerate(zip(chunk, retrieved, strict=True), start=start):
            if towers.exclude_seen and (seen[place] == target).any():
                continue
            by_towers[place] = _rank(found.candidates, target)
            proposed = sources[place].find(history[-max_history:].astype(np.int64), seen[place])
            for row, source in enumerate(Source):
                if source in proposed:
                    by_source[row, place] = _rank(proposed[source], target)
    return SourceRanks(by_towers, by_source)


def _rank(items: NDArray[np.int64], target: int) -> float:
    at = np.flatnonzero(items == target)
    return float(at[0] + 1) if len(at) else np.inf
