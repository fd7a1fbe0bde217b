"""Candidates of the sources besides the towers, from tables written by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recsys.candidates import merged, of_other_sources, within_budget
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.candidate_sources import CandidateSources, following, own_items
from recsys.model.category_trends import CategoryTrends
from recsys.model.item_activity import ACTIVITY_NAMES, unknown_activity
from recsys.model.neighbours import Neighbours
from recsys.model.ranking_tables import RankingTables
from recsys.model.sources import Source
from training.models.ranking_tables import narrowest_categories, strongest

FOLLOWERS = strongest(np.array([[0] * 6, [0, 0, 3, 1, 0, 0], [0, 0, 0, 4, 2, 0], *[[0] * 6] * 3], dtype=np.float32))
"""Item 1 is followed by 2 and 3, item 2 by 3 and 4."""


CATEGORY = np.array([0, 1, 2, 2, 0, 1], dtype=np.int32)
"""Items 1 and 5 are in one category, 2 and 3 in another, and 4 in none."""


def tables(own: int, following: int, trending: int, in_categories: int = 0) -> RankingTables:
    nothing = Neighbours(np.zeros((6, 1), np.int32), np.zeros((6, 1), np.float32))
    column = np.zeros(6, dtype=np.float32)
    activity = np.zeros((6, len(ACTIVITY_NAMES)), dtype=np.float32)
    activity[1:, 0] = [1, 5, 2, 4, 3]
    return RankingTables(
        *(nothing, FOLLOWERS, nothing, nothing, nothing),
        *(column, column, column, column, column, column),
        activity=activity,
        category=CATEGORY,
        sources=np.array([own, following, trending, in_categories]),
    )


def test_own_items_come_by_frequency_and_then_by_recency() -> None:
    assert own_items(np.array([4, 1, 2, 1, 3, 4])).tolist() == [4, 1, 3, 2]


def test_what_followed_the_latest_items_comes_first() -> None:
    # After 1, 2: item 3 has 4 + 0.9 * 1, item 4 has 2, item 2 has 0.9 * 3.
    assert following(FOLLOWERS, np.array([1, 2]), 10).tolist() == [3, 2, 4]
    assert following(FOLLOWERS, np.array([1, 2]), 1).tolist() == [3]
    assert following(FOLLOWERS, np.array([5]), 10).tolist() == []


def test_each_source_proposes_as_many_as_the_release_says() -> None:
    found = CandidateSources(tables(own=1, following=0, trending=2), exclude_seen=False).find(np.array([1, 2, 2]))
    assert {source: items.tolist() for source, items in found.items()} == {Source.OWN: [2], Source.TRENDING: [2, 4]}


def activity_of_shares(*per_million: float) -> np.ndarray:
    activity = unknown_activity(len(per_million))
    activity[1:, 0] = np.log1p(per_million)
    return activity


def test_items_trend_in_the_categories_of_the_history() -> None:
    trends = CategoryTrends(CATEGORY, activity_of_shares(10, 50, 20, 40, 30))
    # Once in each category: 50 and 20, 30 and 10. Item 4 has no category.
    assert trends.find(np.array([1, 2]), 10).tolist() == [2, 5, 3, 1]
    assert trends.find(np.array([1, 2]), 2).tolist() == [2, 5]
    # Twice in the first one: 60 and 20.
    assert trends.find(np.array([1, 5, 2]), 10).tolist() == [5, 2, 1, 3]
    assert trends.find(np.array([4, 4]), 10).tolist() == []


def test_nobody_trends_in_categories_without_times_or_without_categories() -> None:
    assert CategoryTrends(CATEGORY, unknown_activity(5)).find(np.array([1]), 10).tolist() == []
    none = np.zeros(6, dtype=np.int32)
    assert CategoryTrends(none, activity_of_shares(1, 2, 3, 4, 5)).find(np.array([1]), 10).tolist() == []


def test_what_trends_in_categories_moves_with_the_activity_and_leaves_out_seen_items() -> None:
    sources = CandidateSources(tables(0, 0, 0, in_categories=2), exclude_seen=True)
    assert sources.find(np.array([2]))[Source.TRENDING_IN_CATEGORIES].tolist() == [3]
    assert sources.find(np.array([2, 4, 1]))[Source.TRENDING_IN_CATEGORIES].tolist() == [5, 3]
    moved = sources.at(activity_of_shares(1, 1, 9, 1, 1))
    assert moved.find(np.array([2, 4, 1]))[Source.TRENDING_IN_CATEGORIES].tolist() == [3, 5]


def test_the_narrowest_category_is_the_one_with_the_fewest_items_that_is_not_tiny() -> None:
    categories = [["tiny", "books", "crime"]] * 2 + [["books", "crime"]] * 9 + [["books"]] * 3 + [[], ["pets"]]
    assert narrowest_categories(categories).tolist() == [0, *[1] * 11, *[2] * 3, 0, 0]


def test_seen_items_take_no_places() -> None:
    found = CandidateSources(tables(own=3, following=1, trending=2), exclude_seen=True).find(np.array([1, 2]))
    assert found[Source.OWN].tolist() == []
    assert found[Source.FOLLOWING].tolist() == [3]
    assert found[Source.TRENDING].tolist() == [4, 5]


def test_items_of_the_history_that_are_not_seen_keep_their_places() -> None:
    found = CandidateSources(tables(own=3, following=1, trending=2), exclude_seen=True).find(
        np.array([1, 2]), np.array([1])
    )
    assert found[Source.OWN].tolist() == [2]
    assert found[Source.FOLLOWING].tolist() == [3]
    assert found[Source.TRENDING].tolist() == [2, 4]


def test_a_log_without_times_has_nothing_trending() -> None:
    timeless = dataclasses.replace(tables(0, 0, 3), activity=unknown_activity(5))
    assert CandidateSources(timeless, exclude_seen=True).find(np.array([1]))[Source.TRENDING].tolist() == []


def test_tables_keep_the_sources(tmp_path: Path) -> None:
    tables(own=10, following=20, trending=30).save(tmp_path)
    loaded = RankingTables.load(tmp_path)
    assert loaded.sources.tolist() == [10, 20, 30, 0]
    assert loaded.category.tolist() == CATEGORY.tolist()
    assert loaded.activity[2, 0] == 5


@pytest.mark.parametrize(("num_candidates", "own"), [(NUM_CANDIDATES, 4), (NUM_CANDIDATES // 2, 2), (10**6, 4)])
def test_a_smaller_budget_takes_fewer_of_every_source(num_candidates: int, own: int) -> None:
    assert within_budget({"own": list("abcd"), "trending": []}, num_candidates) == {
        "own": list("abcd")[:own],
        "trending": [],
    }


def test_the_other_sources_repeat_nothing_and_find_nothing_excluded() -> None:
    assert of_other_sources([["a", "b"], ["b", "c", "d"]], {"c"}) == ["a", "b", "d"]


def test_merging_repeats_nothing() -> None:
    assert merged(["a", "b"], ["b", "c", "a"]) == ["a", "b", "c"]
