"""The order of items, and how they are returned."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts.features import PopularItem
from recsys.contracts.retrieval import CatalogueItem
from recsys.rules import ScoredItem, best_first, by_popularity, to_recommendations

item_ids = st.sampled_from([f"i{number}" for number in range(8)])
scored_items = st.lists(st.tuples(item_ids, st.none() | st.integers(-3, 3).map(float)), max_size=20)


def names(items: list[ScoredItem]) -> list[str]:
    return [item.item_id for item in items]


def test_items_are_sorted_by_descending_score() -> None:
    assert names(best_first(["a", "b", "c"], [0.1, 0.3, -0.2])) == ["b", "a", "c"]


def test_ties_keep_their_order() -> None:
    assert names(best_first(["c", "a", "b"], [1.0, 1.0, 1.0])) == ["c", "a", "b"]


def test_items_without_a_score_come_last_even_after_negative_scores() -> None:
    assert names(best_first(["x", "a", "y", "b"], [None, -5.0, None, 0.0])) == ["b", "a", "x", "y"]


def test_a_missing_score_raises() -> None:
    with pytest.raises(ValueError, match="zip"):
        best_first(["a", "b"], [1.0])


@given(scored_items)
def test_sorting_keeps_every_item(pairs: Any) -> None:
    ranked = best_first([item_id for item_id, _ in pairs], [score for _, score in pairs])
    assert sorted((item.item_id, str(item.score)) for item in ranked) == sorted((i, str(s)) for i, s in pairs)


@given(scored_items)
def test_sorting_is_by_score_with_unscored_items_last(pairs: Any) -> None:
    scores = [item.score for item in best_first([item_id for item_id, _ in pairs], [score for _, score in pairs])]
    known = [score for score in scores if score is not None]
    assert scores == sorted(known, reverse=True) + [None] * (len(scores) - len(known))


def test_popular_items_come_first_and_the_others_keep_their_order() -> None:
    popular = [PopularItem(item_id="b", popularity=5.0), PopularItem(item_id="a", popularity=1.0)]
    assert by_popularity(["z", "a", "y", "b"], popular) == [
        ScoredItem("b", 5.0),
        ScoredItem("a", 1.0),
        ScoredItem("z", None),
        ScoredItem("y", None),
    ]


def test_items_are_numbered_from_one_and_described_if_possible() -> None:
    known = CatalogueItem("a", "Title", {"year": 1999})
    first, second = to_recommendations([ScoredItem("a", 1.0), ScoredItem("b", None)], {"a": known})
    assert (first.rank, first.title, first.metadata) == (1, "Title", {"year": 1999})
    assert (second.rank, second.title, second.metadata, second.score) == (2, None, {}, None)
