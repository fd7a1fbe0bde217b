"""The order of items, and the form in which they are returned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from recsys.contracts.features import PopularItem
from recsys.contracts.recommendation import Provenance, Recommendation
from recsys.contracts.retrieval import Candidate, CatalogueItem


class ScoredItem(NamedTuple):
    item_id: str
    score: float | None
    """None if the item could not be scored; such items come last."""


NEW_SCORED_ITEM = partial(tuple.__new__, ScoredItem)
"""Like `ScoredItem._make`, without a Python frame for each of hundreds."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Items before exclusions, best first."""

    ranked: list[ScoredItem]
    release_version: int | None
    """The release that ranked the items, or that serves the request if none did."""
    provenance: Provenance = field(default_factory=Provenance)


def best_first(item_ids: Sequence[str], scores: Sequence[float | None]) -> list[ScoredItem]:
    """Items by descending score. Ties, and items without a score, keep their input order."""
    unscored = -math.inf
    keys = [unscored if score is None else score for _, score in zip(item_ids, scores, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)  # stable, also in reverse
    return list(
        map(NEW_SCORED_ITEM, zip(map(item_ids.__getitem__, order), map(scores.__getitem__, order), strict=True))
    )


def by_similarity(candidates: Sequence[Candidate]) -> list[ScoredItem]:
    """Candidates in the order of the index."""
    return [ScoredItem(candidate.item_id, candidate.similarity) for candidate in candidates]


def by_popularity(item_ids: Sequence[str], popular: Sequence[PopularItem]) -> list[ScoredItem]:
    """The given items, most popular first; items that are not in `popular` follow without a score."""
    popularity = {item.item_id: item.popularity for item in popular}
    return best_first(item_ids, [popularity.get(item_id) for item_id in item_ids])


def to_recommendations(items: Sequence[ScoredItem], described: dict[str, CatalogueItem]) -> list[Recommendation]:
    """Numbered recommendations. An item that is missing from `described` has no title."""
    return [
        Recommendation(
            item_id=item.item_id,
            score=item.score,
            rank=rank,
            title=described[item.item_id].title if item.item_id in described else None,
            metadata=described[item.item_id].metadata if item.item_id in described else {},
        )
        for rank, item in enumerate(items, start=1)
    ]
