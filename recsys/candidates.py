"""Merge the candidates of several sources within the number that a request may rank, and say who found an item."""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from recsys.contracts.base import NUM_CANDIDATES
from recsys.contracts.retrieval import Candidate

T = TypeVar("T")
TOWERS = "towers"
"""The name of the source that is searched in the index."""


class Found(NamedTuple):
    """The candidates of a request."""

    retrieved: Sequence[Candidate] = ()
    """From the index, best first."""
    others: Sequence[str] = ()
    """Those of the other sources, without repeats and without excluded items."""
    by_source: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Those of the other sources, by source."""

    def sources_of(self, item_ids: Iterable[str]) -> dict[str, list[str]]:
        """The sources that found each of the items; none for an item that fills the page."""
        found = {TOWERS: {candidate.item_id for candidate in self.retrieved}}
        found |= {source: set(items) for source, items in self.by_source.items()}
        return {item_id: [source for source, items in found.items() if item_id in items] for item_id in item_ids}


def within_budget(proposed: Mapping[str, Sequence[T]], num_candidates: int) -> dict[str, Sequence[T]]:
    """A release's sources are made for NUM_CANDIDATES; if a request ranks fewer, every source contributes fewer."""
    share = min(1.0, num_candidates / NUM_CANDIDATES)
    return {source: items[: round(share * len(items))] for source, items in proposed.items()}


def of_other_sources(found: Iterable[Sequence[T]], excluded: Container[T]) -> list[T]:
    """The candidates that the towers need not retrieve, without repeats and without excluded items."""
    return [item for item in dict.fromkeys(chain.from_iterable(found)) if item not in excluded]


def merged(retrieved: Iterable[T], others: Iterable[T]) -> list[T]:
    """Both, retrieved candidates first, without repeats."""
    return list(dict.fromkeys(chain(retrieved, others)))
