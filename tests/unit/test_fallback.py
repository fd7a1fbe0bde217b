"""What is served without a model, and that a page is full whatever its tier."""

from typing import Any

import pytest

from recsys.adapters.in_memory import InMemoryCatalogue
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.base import MAX_CANDIDATES
from recsys.contracts.features import PopularItem, PrecomputedList, UserFeatures
from recsys.contracts.recommendation import RecommendationRequest, RecommendationResponse, Tier
from recsys.deadline import Deadline
from recsys.errors import ReleaseNotLoaded, UpstreamUnavailable
from recsys.experiment import CHALLENGER, CHAMPION
from tests.unit.pipeline_case import (
    DEADLINE_SECONDS,
    ITEMS,
    POPULAR,
    READER,
    RELEASE,
    Broken,
    NoPopular,
    described,
    index_of,
    item_ids,
    open_pipeline,
    popular,
    recommend,
)

DOWN = Broken(UpstreamUnavailable("cannot be reached"))
NO_RELEASE = Broken(ReleaseNotLoaded("none yet"))
UNSEEN = ITEMS[1:]
"""What the reader has not seen, in the order of the catalogue."""


class Lists(InMemoryFeatureStore):
    """Every user has the same precomputed list, by `release_version`; `popular_items` are popular."""

    def __init__(self, *listed: str, release_version: int = RELEASE, popular_items: list[str] | None = None) -> None:
        super().__init__()
        self._listed = list(listed)
        self._release = release_version
        self._popular_items = popular_items
        self.asked: list[int] = []

    async def precomputed(self, user_id: str, release_version: int | None) -> PrecomputedList:
        self.asked.append(release_version)
        return PrecomputedList(release_version=self._release, item_ids=self._listed)

    async def popular(self, top_k: int) -> list[PopularItem]:
        if self._popular_items is None:
            return await super().popular(top_k)
        return [PopularItem(item_id=item_id, popularity=1.0) for item_id in self._popular_items][:top_k]


def titles(response: Any) -> list[str | None]:
    return [each.title for each in response.recommendations]


# --- full pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "tier"),
    [
        ({}, Tier.PERSONALIZED),
        ({"ranker": DOWN}, Tier.RETRIEVED),
        ({"encoder": DOWN, "features": Lists("i5")}, Tier.PRECOMPUTED),
        ({"encoder": DOWN, "features": Lists()}, Tier.POPULAR),
        ({"encoder": DOWN, "features": Lists("i0")}, Tier.POPULAR),
        ({"encoder": DOWN, "features": Lists("unknown")}, Tier.POPULAR),
        ({"encoder": DOWN, "features": Lists("i5", popular_items=[])}, Tier.PRECOMPUTED),
        ({"encoder": DOWN, "features": Lists(popular_items=["i5"])}, Tier.POPULAR),
        ({"encoder": DOWN, "features": Lists(popular_items=["i0", "unknown"])}, Tier.STATIC),
        ({"index": index_of(["i0"])}, Tier.POPULAR),
        ({"index": index_of(["i0"]), "features": NoPopular(DOWN)}, Tier.STATIC),
        ({"features": DOWN}, Tier.STATIC),
        ({"features": DOWN, "encoder": DOWN, "index": DOWN, "ranker": DOWN}, Tier.STATIC),
    ],
)
async def test_the_page_is_full_in_every_tier(
    ports: dict[str, Any] | dict[str, Broken | Lists] | dict[str, Broken], tier: Tier
) -> None:
    response = await recommend(await open_pipeline(**ports, num_candidates=2), top_k=9)
    assert len(set(item_ids(response))) == 9
    assert all(titles(response))
    assert response.tier == tier
    assert "too_few_items" not in response.tier_reason


@pytest.mark.parametrize("serving", [RELEASE, None])
async def test_a_new_orchestrator_without_redis_serves_the_catalogue_by_popularity_in_training(serving: Any) -> None:
    response = await recommend(await open_pipeline(features=DOWN, serving=serving), top_k=3, exclude_items=["i1"])
    assert item_ids(response) == ["i0", "i2", "i3"]
    assert titles(response) == ["Thing i0", "Thing i2", "Thing i3"]
    assert [each.score for each in response.recommendations] == [None] * 3
    assert (response.tier, response.tier_reason) == (Tier.STATIC, "features:upstream_unavailable")


async def test_without_popular_items_the_catalogue_fills_the_page() -> None:
    response = await recommend(await open_pipeline(features=NoPopular(DOWN), num_candidates=2), top_k=5)
    assert item_ids(response) == ["i1", "i2", "i3", "i4", "i5"]
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "backfill:upstream_unavailable")


async def test_a_short_precomputed_list_is_followed_by_popular_items() -> None:
    response = await recommend(await open_pipeline(encoder=DOWN, features=Lists("i5", "i4")), top_k=4)
    assert item_ids(response) == ["i5", "i4", "i9", "i8"]
    assert (response.tier, response.tier_reason) == (Tier.PRECOMPUTED, "encode:upstream_unavailable")


async def test_a_response_with_too_few_items_says_that_the_catalogue_has_no_more() -> None:
    response = await recommend(await open_pipeline(), top_k=10)
    assert set(item_ids(response)) == set(UNSEEN)
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "too_few_items")
    response = await recommend(await open_pipeline(encoder=DOWN), top_k=10)
    assert response.tier_reason == "encode:upstream_unavailable,too_few_items"


async def test_an_empty_response_says_that_no_catalogue_is_loaded() -> None:
    nothing = {"features": DOWN, "encoder": NO_RELEASE, "ranker": NO_RELEASE, "index": NO_RELEASE}
    response = await recommend(await open_pipeline(**nothing, catalogue=InMemoryCatalogue({}), serving=None))
    assert response.recommendations == []
    assert (response.tier, response.tier_reason) == (Tier.STATIC, "features:upstream_unavailable,no_catalogue")


async def test_excluded_items_stay_excluded_if_the_page_stays_short() -> None:
    response = await recommend(await open_pipeline(features=DOWN), exclude_items=ITEMS[:8], session_items=["i8"])
    assert item_ids(response) == ["i9"]


# --- unknown items ----------------------------------------------------------------------------------------------------


INVENTED = [f"invented-{number}" for number in range(300)]


@pytest.mark.parametrize(
    "store", [Lists(popular_items=INVENTED + POPULAR), Lists(*INVENTED, *POPULAR)], ids=["popular", "precomputed"]
)
async def test_items_that_the_catalogue_does_not_know_are_never_shown(store: Lists) -> None:
    response = await recommend(await open_pipeline(encoder=DOWN, features=store, num_candidates=400), top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert titles(response) == ["Thing i9", "Thing i8", "Thing i7"]
    assert set(item_ids(await popular(await open_pipeline(features=store), 3))) <= set(ITEMS)


async def test_remembered_items_that_the_catalogue_does_not_know_are_never_shown() -> None:
    store = Lists(popular_items=INVENTED + POPULAR)
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()
    store.user_features = store.popular = DOWN.fail
    assert item_ids(await recommend(pipeline, top_k=3)) == POPULAR[:3]


async def test_while_no_catalogue_is_loaded_popular_items_are_shown_without_titles() -> None:
    pipeline = await open_pipeline(
        features=Lists(popular_items=["a", "b"]), encoder=NO_RELEASE, catalogue=InMemoryCatalogue({}), serving=None
    )
    response = await recommend(pipeline, top_k=2)
    assert (item_ids(response), titles(response)) == (["a", "b"], [None, None])


async def test_before_a_release_serves_the_loaded_catalogue_already_has_titles() -> None:
    response = await recommend(await open_pipeline(serving=None, encoder=NO_RELEASE, index=DOWN), top_k=2)
    assert (item_ids(response), titles(response)) == (["i9", "i8"], ["Thing i9", "Thing i8"])


# --- precomputed lists ------------------------------------------------------------------------------------------------


async def recommend_as(pipeline: Any, variant: str, release_version: int | None) -> RecommendationResponse:
    with Deadline(DEADLINE_SECONDS).activate():
        return await pipeline.recommend(RecommendationRequest(user_id=READER, top_k=2), variant, release_version)


@pytest.mark.parametrize("port", ["encoder", "index"])
async def test_without_encode_or_retrieve_the_precomputed_list_is_served_without_seen_items(port: str) -> None:
    store = Lists("i0", "i5", "i4")
    response = await recommend(await open_pipeline(features=store, **{port: DOWN}), top_k=2)
    assert item_ids(response) == ["i5", "i4"]
    assert (response.tier, response.release_version) == (Tier.PRECOMPUTED, RELEASE)
    assert response.tier_reason.endswith("upstream_unavailable")
    assert store.asked == [RELEASE]
    assert "precomputed" in response.timings_ms


async def test_the_list_is_read_only_if_it_is_needed() -> None:
    store = Lists("i5")
    pipeline = await open_pipeline(features=store)
    await recommend(pipeline)
    await recommend(pipeline, "newcomer")
    await recommend(pipeline, candidate_items=["i1"])
    assert store.asked == []


async def test_the_champion_serves_a_list_of_an_older_release_as_that_releases() -> None:
    pipeline = await open_pipeline(features=Lists("i5", "i4", release_version=RELEASE - 1), index=DOWN)
    response = await recommend_as(pipeline, CHAMPION, RELEASE)
    assert (response.tier, response.release_version) == (Tier.PRECOMPUTED, RELEASE - 1)
    assert item_ids(response) == ["i5", "i4"]
    assert titles(response) == ["Thing i5", "Thing i4"]


@pytest.mark.parametrize("port", ["encoder", "index"])
async def test_the_challenger_never_serves_the_list_of_another_release(port: str) -> None:
    challenger = RELEASE + 1
    store = Lists("i5", "i4", release_version=RELEASE)
    response = await recommend_as(await open_pipeline(features=store, **{port: DOWN}), CHALLENGER, challenger)
    assert response.tier == Tier.POPULAR
    assert item_ids(response) == ["i9", "i8"]


async def test_the_challenger_serves_the_list_of_its_own_release() -> None:
    challenger = RELEASE + 1
    store = Lists("i5", "i4", release_version=challenger)
    response = await recommend_as(await open_pipeline(features=store, encoder=DOWN), CHALLENGER, challenger)
    assert (response.tier, response.release_version) == (Tier.PRECOMPUTED, challenger)
    assert store.asked == [challenger]


async def test_items_of_an_older_list_that_the_champion_no_longer_knows_are_not_served() -> None:
    catalogue = InMemoryCatalogue(
        {RELEASE - 1: [described("i5").item, described("i4").item], RELEASE: [described("i4").item]}
    )
    store = Lists("i5", "i4", release_version=RELEASE - 1)
    response = await recommend(await open_pipeline(features=store, index=DOWN, catalogue=catalogue), top_k=1)
    assert item_ids(response) == ["i4"]


@pytest.mark.parametrize("error", [UpstreamUnavailable("cannot be reached"), None], ids=["fails", "hangs"])
async def test_if_the_list_cannot_be_read_popular_items_are_served(error: UpstreamUnavailable | None) -> None:
    store = InMemoryFeatureStore()
    store.precomputed = Broken(error).fail
    response = await recommend(await open_pipeline(features=store, encoder=DOWN), top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "encode:upstream_unavailable")


# --- popular items ----------------------------------------------------------------------------------------------------


async def test_popular_items_are_described_and_best_first() -> None:
    response = await popular(await open_pipeline(), 3)
    assert item_ids(response) == POPULAR[:3]
    assert response.recommendations[0].title == "Thing i9"
    assert response.release_version == RELEASE


async def test_remembered_popular_items_are_served_if_the_feature_store_fails() -> None:
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()
    store.popular = Broken(UpstreamUnavailable("cannot be reached")).fail
    assert item_ids(await popular(pipeline, 2)) == POPULAR[:2]


async def test_an_empty_response_does_not_replace_the_remembered_popular_items() -> None:
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()

    async def nothing(_: int) -> list[PopularItem]:
        return []

    store.popular = nothing
    await pipeline.remember_popular()
    store.popular = Broken(UpstreamUnavailable("cannot be reached")).fail
    assert item_ids(await popular(pipeline, 2)) == POPULAR[:2]


async def test_popular_items_are_requested_up_to_the_maximum_only() -> None:
    class CountsItems(InMemoryFeatureStore):
        num_items = 0

        async def user_features(self, user_id: str) -> UserFeatures:
            seen_items = [f"seen {number}" for number in range(MAX_CANDIDATES)]
            return UserFeatures(user_id=user_id, known=True, recent_items=[], seen_items=seen_items, attributes={})

        async def popular(self, top_k: int) -> list[PopularItem]:
            self.num_items = top_k
            return await super().popular(top_k)

    store = CountsItems()
    await recommend(await open_pipeline(features=store))
    assert store.num_items == MAX_CANDIDATES


@pytest.mark.parametrize(("store", "tier"), [(Lists(popular_items=["i9"]), Tier.POPULAR), (DOWN, Tier.STATIC)])
async def test_the_list_of_popular_items_is_filled_from_the_catalogue(store: Broken | Lists, tier: Tier) -> None:
    response = await popular(await open_pipeline(features=store), 10)
    assert set(item_ids(response)) == set(ITEMS)
    assert response.tier == tier
    assert "too_few_items" not in response.tier_reason


async def test_too_few_popular_items_have_a_reason() -> None:
    assert (await popular(await open_pipeline(), 11)).tier_reason == "too_few_items"
    response = await popular(await open_pipeline(features=DOWN, catalogue=InMemoryCatalogue({}), serving=None), 3)
    assert (response.recommendations, response.tier_reason) == ([], "popular:upstream_unavailable,no_catalogue")
