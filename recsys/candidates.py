"""Merge the candidates of several sources within the number that a request may rank."""

from collections.abc import Container, Iterable, Sequence
from itertools import chain
from typing import TypeVar

from recsys.contracts.base import NUM_CANDIDATES

T = TypeVar("T")


def of_other_sources(
    found: Iterable[Sequence[T]], excluded: Container[T], num_candidates: int = NUM_CANDIDATES
) -> list[T]:
    """The candidates that the towers need not retrieve, without repeats and without excluded items.

    A release's sources are made for NUM_CANDIDATES; if a request ranks fewer, every source contributes fewer.
    """
    share = min(1.0, num_candidates / NUM_CANDIDATES)
    chosen = chain.from_iterable(items[: round(share * len(items))] for items in found)
    return [item for item in dict.fromkeys(chosen) if item not in excluded]


def merged(retrieved: Iterable[T], others: Iterable[T]) -> list[T]:
    """Both, retrieved candidates first, without repeats."""
    return list(dict.fromkeys(chain(retrieved, others)))
