"""The rules stage: turns scored candidates into the list that is returned."""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from recsys.contracts.features import PopularItem
from recsys.contracts.recommendation import Provenance, Recommendation
from recsys.contracts.retrieval import Candidate, CatalogueItem


class ScoredItem(NamedTuple):
    item_id: str
    score: float | None
    """None if the item could not be scored; such items come last."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Items before the rules, best first."""

    ranked: list[ScoredItem]
    release_version: int | None
    """The release that ranked the items, or the champion if none did."""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def retrieved(self) -> bool:
        """Whether the items come from the vector index."""
        return self.provenance.collection is not None


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Items that must not be recommended."""

    seen: Set[str] = frozenset()
    """Items from the user's history and session."""
    unwanted: Set[str] = frozenset()
    """Items that the caller excludes."""
    exclude_seen: bool = True
    """The release's policy; true if the release is not known. Candidates that the caller chose may be seen items."""

    @property
    def item_ids(self) -> Set[str]:
        return self.seen | self.unwanted if self.exclude_seen else self.unwanted


def best_first(item_ids: Sequence[str], scores: Sequence[float | None]) -> list[ScoredItem]:
    """Items by descending score. Ties, and items without a score, keep their input order."""
    scored = [ScoredItem(item_id, score) for item_id, score in zip(item_ids, scores, strict=True)]
    return sorted(scored, key=lambda item: (item.score is None, -(item.score or 0.0)))


def by_similarity(candidates: Sequence[Candidate]) -> list[ScoredItem]:
    """Candidates in the order of the index."""
    return [ScoredItem(candidate.item_id, candidate.similarity) for candidate in candidates]


def by_popularity(item_ids: Sequence[str], popular: Sequence[PopularItem]) -> list[ScoredItem]:
    """The given items, most popular first; items that are not in `popular` follow without a score."""
    popularity = {item.item_id: item.popularity for item in popular}
    return best_first(item_ids, [popularity.get(item_id) for item_id in item_ids])


def take_top_k(ranked: Iterable[ScoredItem], exclude: Collection[str], top_k: int) -> list[ScoredItem]:
    """The first `top_k` items that are not excluded, without duplicates."""
    picked: dict[str, ScoredItem] = {}
    for item in ranked:
        if len(picked) == top_k:
            break
        if item.item_id not in exclude:
            picked.setdefault(item.item_id, item)
    return list(picked.values())


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
