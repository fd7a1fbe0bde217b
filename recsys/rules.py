"""The last stage: from scored candidates to the list that is shown."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from recsys.contracts.features import PopularItem
from recsys.contracts.recommendation import Recommendation
from recsys.contracts.retrieval import CatalogueItem


class ScoredItem(NamedTuple):
    item_id: str
    score: float | None
    """None where nothing could score the item; such items come last."""


def best_first(item_ids: Sequence[str], scores: Sequence[float | None]) -> list[ScoredItem]:
    """Items by falling score; on a tie, and among those without a score, in the order they came in."""
    scored = [ScoredItem(item_id, score) for item_id, score in zip(item_ids, scores, strict=True)]
    return sorted(scored, key=lambda item: (item.score is None, -(item.score or 0.0)))


def by_popularity(item_ids: Sequence[str], popular: Sequence[PopularItem]) -> list[ScoredItem]:
    """The same items, the popular ones first; the others follow without a score."""
    popularity = {item.item_id: item.popularity for item in popular}
    return best_first(item_ids, [popularity.get(item_id) for item_id in item_ids])


def take_top_k(ranked: Iterable[ScoredItem], exclude: Collection[str], top_k: int) -> list[ScoredItem]:
    """The first `top_k` that are not excluded, each item once."""
    picked: dict[str, ScoredItem] = {}
    for item in ranked:
        if len(picked) == top_k:
            break
        if item.item_id not in exclude:
            picked.setdefault(item.item_id, item)
    return list(picked.values())


def to_recommendations(items: Sequence[ScoredItem], described: dict[str, CatalogueItem]) -> list[Recommendation]:
    """Recommendations as they are shown; an item that nobody describes has no title."""
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
