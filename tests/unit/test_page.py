"""What may be on a page, and how a long history is excluded from it."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.adapters.in_memory import InMemoryCatalogue, InMemoryRanker
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.base import MAX_DISLIKED, MAX_EXCLUDED, MAX_HISTORY
from recsys.contracts.features import SHIPPED_SEEN, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import MAX_TOTAL_EXCLUDED, RecallRequest
from recsys.contracts.recommendation import Tier
from recsys.contracts.retrieval import CatalogueItem
from recsys.deadline import Deadline
from recsys.describe import Describer
from recsys.errors import UpstreamTimeout, UpstreamUnavailable
from recsys.exclusions import Exclusions
from recsys.page import Page
from recsys.rules import ScoredItem
from recsys.stages import RequestRun
from tests.unit.pipeline_case import (
    ITEMS,
    RELEASE,
    VECTORS,
    Broken,
    item_ids,
    open_pipeline,
    recommend,
    seen,
)

NAMES = [f"i{number}" for number in range(8)]
names = st.sampled_from(NAMES)


class CountingCatalogue(InMemoryCatalogue):
    rounds = 0

    async def items(self, release_version: int | None, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        self.rounds += 1
        return await super().items(release_version, item_ids)


def catalogue_of(item_ids: Sequence[str]) -> CountingCatalogue:
    return CountingCatalogue({RELEASE: [CatalogueItem(item_id, f"Thing {item_id}", {}) for item_id in item_ids]})


def page_of(catalogue: Any, top_k: int, exclude: Collection[str] = frozenset(), **options: Any) -> Page:
    run = RequestRun(Deadline(3600.0))
    return Page(run, Describer(catalogue, lambda: None), Exclusions(set(exclude)), top_k, RELEASE, **options)


def shown(page: Page) -> list[str]:
    return [each.item_id for each in page.recommendations]


def unscored(item_ids: Sequence[str]) -> list[ScoredItem]:
    return [ScoredItem(item_id, None) for item_id in item_ids]


@given(st.lists(st.lists(names, max_size=12), max_size=3), st.sets(names), st.sets(names), st.integers(1, 10))
def test_the_first_items_that_are_known_and_not_excluded_are_taken_once_each(
    lists: Any, exclude: Collection[str], known: Any, top_k: int
) -> None:
    page = page_of(catalogue_of(known), top_k, exclude)

    async def add_all() -> None:
        for each in lists:
            await page.add(unscored(each))

    asyncio.run(add_all())
    allowed = [item_id for each in lists for item_id in each if item_id in known and item_id not in exclude]
    assert shown(page) == list(dict.fromkeys(allowed))[:top_k]
    assert page.missing == top_k - len(shown(page))
    assert all(each.title for each in page.recommendations)


async def test_of_repeated_items_the_first_is_taken() -> None:
    page = page_of(catalogue_of("a"), 5)
    await page.add([ScoredItem("a", 2.0), ScoredItem("a", 1.0)])
    await page.add([ScoredItem("a", 3.0)])
    assert [each.score for each in page.recommendations] == [2.0]


async def test_unknown_items_are_shown_only_if_the_caller_chose_them() -> None:
    page = page_of(catalogue_of("a"), 5, known_only=False)
    await page.add(unscored(["x", "a"]))
    assert [(each.item_id, each.title) for each in page.recommendations] == [("x", None), ("a", "Thing a")]


async def test_items_are_described_in_one_round_and_many_unknown_ones_in_few() -> None:
    catalogue = catalogue_of(NAMES)
    await page_of(catalogue, 3).add(unscored(NAMES))
    assert catalogue.rounds == 1
    page = page_of(catalogue, 1)
    await page.add(unscored([*map(str, range(1000)), "i1"]))
    assert shown(page) == ["i1"]
    assert catalogue.rounds <= 1 + 10


# --- users who have seen more than their features contain -------------------------------------------------------------


class OldHistory(InMemoryFeatureStore):
    """Every user saw `old` before the newest seen items, so that the features lack them."""

    def __init__(self, *old: str) -> None:
        super().__init__()
        self.old = set(old)
        self.looked_up: list[list[str]] = []

    async def user_features(self, user_id: str) -> UserFeatures:
        return (await super().user_features(user_id)).model_copy(update={"more_seen": True})

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        self.looked_up.append(list(item_ids))
        return self.old.intersection(item_ids)


async def test_items_that_were_seen_long_ago_are_not_recommended() -> None:
    store = OldHistory("i1", "i2")
    response = await recommend(await open_pipeline(features=store), top_k=3)
    assert item_ids(response) == ["i9", "i8", "i7"]
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "complete")
    assert store.looked_up == [[*ITEMS[1:3], *ITEMS[:2:-1]]]  # one call, for the candidates
    assert "seen" in response.timings_ms


async def test_a_real_store_is_asked_for_what_its_features_lack() -> None:
    store = InMemoryFeatureStore()
    views = ["i1", *(f"other-{number}" for number in range(SHIPPED_SEEN + MAX_HISTORY)), "i0"]
    await store.record([seen("fan", item_id, at) for at, item_id in enumerate(views)], ITEMS)
    assert "i1" not in (await store.user_features("fan")).seen_items
    assert item_ids(await recommend(await open_pipeline(features=store), "fan", top_k=2)) == ["i2", "i9"]


@pytest.mark.parametrize(
    "ports",
    [{}, {"ranker": None}, {"encoder": None}, {"index": None}],
    ids=["personalized", "retrieved", "popular", "no index"],
)
async def test_in_every_tier_the_page_is_full_without_items_that_were_seen_long_ago(ports: dict[str, None]) -> None:
    broken = dict.fromkeys(ports, Broken(UpstreamUnavailable("cannot be reached")))
    store = OldHistory("i1", "i9", "i8", "i7")
    response = await recommend(await open_pipeline(features=store, **broken, num_candidates=3), top_k=5)
    assert set(item_ids(response)) == {"i2", "i3", "i4", "i5", "i6"}


async def test_the_catalogues_own_order_lacks_them_too() -> None:
    store = OldHistory("i1", "i3")
    store.popular = Broken(UpstreamUnavailable("cannot be reached")).fail
    broken = Broken(UpstreamUnavailable("cannot be reached"))
    response = await recommend(await open_pipeline(features=store, encoder=broken), top_k=3)
    assert (item_ids(response), response.tier) == (["i2", "i4", "i5"], Tier.STATIC)


async def test_if_all_candidates_were_seen_long_ago_the_response_is_not_called_personalized() -> None:
    store = OldHistory("i1", "i2", "i9", "i8")
    response = await recommend(await open_pipeline(features=store, num_candidates=4), top_k=2)
    assert item_ids(response) == ["i7", "i6"]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "no_candidates")


@pytest.mark.parametrize("error", [UpstreamTimeout("late"), None], ids=["fails", "hangs"])
async def test_if_the_lookup_fails_old_items_count_as_unseen(error: UpstreamTimeout | None) -> None:
    store = OldHistory("i1")
    store.seen_among = Broken(error).fail
    response = await recommend(await open_pipeline(features=store), top_k=3)
    assert item_ids(response) == ["i1", "i2", "i9"]
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "seen:upstream_timeout")


async def test_the_lookup_runs_while_the_candidates_are_ranked() -> None:
    ranking = asyncio.Event()

    class Ranker(InMemoryRanker):
        async def rank(self, *args: Any, **options: Any) -> RankedScores:
            ranking.set()
            return await super().rank(*args, **options)

    class Store(OldHistory):
        async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
            await ranking.wait()
            return await super().seen_among(user_id, item_ids)

    response = await recommend(await open_pipeline(features=Store("i1"), ranker=Ranker(RELEASE, VECTORS)), top_k=1)
    assert (item_ids(response), response.tier_reason) == (["i2"], "complete")


async def test_nothing_is_looked_up_for_other_users_given_candidates_and_releases_that_may_repeat() -> None:
    class Store(OldHistory):
        async def user_features(self, user_id: str) -> UserFeatures:
            return await InMemoryFeatureStore.user_features(self, user_id)

    store = Store("i1")
    await recommend(await open_pipeline(features=store), top_k=3)
    assert store.looked_up == []
    store = OldHistory("i1")
    response = await recommend(await open_pipeline(features=store), candidate_items=["i1", "i2"])
    assert item_ids(response) == ["i1", "i2"]
    repeats = InMemoryRanker(RELEASE, VECTORS, exclude_seen=False)
    assert "i1" in item_ids(await recommend(await open_pipeline(features=store, encoder=repeats), top_k=3))
    assert store.looked_up == []


async def test_the_exclusions_of_the_largest_request_fit_into_a_recall_check() -> None:
    checked: list[RecallRequest] = []

    class Store(OldHistory):
        async def user_features(self, user_id: str) -> UserFeatures:
            return UserFeatures(
                user_id=user_id,
                known=True,
                recent_items=["i0"],
                seen_items=numbered("seen", SHIPPED_SEEN),
                disliked_items=numbered("disliked", MAX_DISLIKED),
                more_seen=True,
                attributes={},
            )

    def numbered(name: str, count: int) -> list[str]:
        return [f"{name}-{number}" for number in range(count)]

    pipeline = await open_pipeline(
        features=Store(), on_retrieved=lambda retrieval: checked.append(RecallRequest.of(retrieval))
    )
    session = [*numbered("session", MAX_HISTORY - 1), "i0"]
    await recommend(pipeline, session_items=session, exclude_items=numbered("excluded", MAX_EXCLUDED))
    assert len(checked[0].exclude_items) > MAX_TOTAL_EXCLUDED - 3
