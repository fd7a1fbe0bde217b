"""Requests through the pipeline over in-memory adapters, and what is served when a stage fails."""

from collections.abc import Collection, Sequence

import pytest

from recsys.adapters.in_memory import InMemoryRanker, InMemoryVectorIndex
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.base import MAX_HISTORY, NUM_CANDIDATES
from recsys.contracts.event_kinds import EventKinds, KindMeaning
from recsys.contracts.events import Event
from recsys.contracts.features import PopularItem
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recommendation import DebugInfo, RecommendationRequest, Tier
from recsys.contracts.retrieval import Candidate, QueryEmbedding
from recsys.errors import (
    InvalidRequest,
    ReleaseNotLoaded,
    UpstreamAnswerInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.unit.pipeline_case import (
    DEADLINE_SECONDS,
    ITEMS,
    POPULAR,
    READER,
    RELEASE,
    VECTORS,
    Broken,
    NoUsers,
    index_of,
    item_ids,
    open_pipeline,
    recommend,
    seen,
    working_ports,
)

FAILURES = {
    "upstream_unavailable": UpstreamUnavailable("cannot be reached"),
    "upstream_invalid": UpstreamAnswerInvalid("garbage"),
    "upstream_timeout": UpstreamTimeout("too late"),
    "release_not_loaded": ReleaseNotLoaded("not loaded"),
    "hangs": None,
}


class Counting:
    """Remembers how many candidates it was asked for."""

    def __init__(self, index: InMemoryVectorIndex) -> None:
        self._index = index
        self.asked: list[int] = []

    async def search(
        self, release_version: int, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str]
    ) -> list[Candidate]:
        self.asked.append(num_candidates)
        return await self._index.search(release_version, query_embedding, num_candidates, exclude)


def code(failure: str) -> str:
    return "upstream_timeout" if failure == "hangs" else failure


@pytest.fixture(params=FAILURES)
def failure(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def broken(failure: str) -> Broken:
    return Broken(FAILURES[failure])


# --- nothing fails ----------------------------------------------------------------------------------------------------


async def test_a_known_user_gets_what_the_model_ranks_best() -> None:
    response = await recommend(await open_pipeline(), top_k=3)
    assert item_ids(response) == ["i1", "i2", "i9"]
    assert [each.rank for each in response.recommendations] == [1, 2, 3]
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "complete")
    assert (response.release_version, response.user_id) == (RELEASE, READER)


async def test_scores_come_from_the_ranker_in_descending_order() -> None:
    response = await recommend(await open_pipeline(), top_k=9)
    ranked = await InMemoryRanker(RELEASE, VECTORS).rank(["i0"], item_ids(response))
    scores = [each.score for each in response.recommendations]
    assert scores == ranked.scores == sorted(scores, reverse=True)


async def test_recommendations_are_described() -> None:
    response = await recommend(await open_pipeline(), top_k=1)
    assert response.recommendations[0].title == "Thing i1"
    assert response.recommendations[0].metadata == {"year": 2000}


async def test_every_response_has_a_unique_id() -> None:
    pipeline = await open_pipeline()
    assert (await recommend(pipeline)).recommendation_id != (await recommend(pipeline)).recommendation_id


async def test_every_stage_that_ran_is_timed() -> None:
    response = await recommend(await open_pipeline(), top_k=3)
    assert list(response.timings_ms) == ["features", "encode", "retrieve", "rank", "describe", "total"]
    assert all(value >= 0 for value in response.timings_ms.values())
    assert response.timings_ms["total"] >= max(value for name, value in response.timings_ms.items() if name != "total")


async def test_without_a_deadline_the_request_is_timed_from_its_start() -> None:
    response = await (await open_pipeline()).recommend(RecommendationRequest(user_id=READER, top_k=3))
    assert response.tier_reason == "complete"
    assert response.timings_ms["total"] < DEADLINE_SECONDS * 1000


async def test_backfill_is_timed_if_it_runs() -> None:
    response = await recommend(await open_pipeline(num_candidates=2), top_k=5)
    assert "backfill" in response.timings_ms


async def test_top_k_limits_the_response_but_not_the_considered_candidates() -> None:
    response = await recommend(await open_pipeline(), top_k=2)
    assert len(response.recommendations) == 2
    assert response.total_candidates == 9


async def test_seen_items_are_not_recommended() -> None:
    store = InMemoryFeatureStore()
    await store.record([seen("fan", item_id, at) for at, item_id in enumerate(["i1", "i2", "i3"])], ITEMS)
    response = await recommend(await open_pipeline(features=store), "fan", top_k=10)
    assert set(item_ids(response)) == set(ITEMS) - {"i1", "i2", "i3"}


async def test_if_the_release_allows_repeats_only_the_callers_exclusions_apply() -> None:
    ranker = InMemoryRanker(RELEASE, VECTORS, exclude_seen=False)
    response = await recommend(await open_pipeline(encoder=ranker), session_items=["i1"], exclude_items=["i2"])
    assert set(item_ids(response)) == set(ITEMS) - {"i2"}


async def test_seen_items_are_excluded_if_the_release_is_unknown() -> None:
    response = await recommend(await open_pipeline(encoder=Broken(UpstreamTimeout("late"))))
    assert set(item_ids(response)) == set(ITEMS) - {"i0"}


async def test_seen_items_older_than_the_history_are_not_recommended() -> None:
    store = InMemoryFeatureStore()
    await store.record(
        [seen("fan", "i1", 0), *(seen("fan", f"i{2 + at % 2}", at) for at in range(1, MAX_HISTORY + 1))], ITEMS
    )
    assert "i1" not in (await store.user_features("fan")).recent_items
    assert "i1" not in item_ids(await recommend(await open_pipeline(features=store), "fan"))


async def test_excluded_items_and_session_items_are_not_recommended() -> None:
    response = await recommend(await open_pipeline(), session_items=["i2"], exclude_items=["i9", "unknown"])
    assert not {"i0", "i2", "i9"} & set(item_ids(response))


async def test_a_session_changes_the_recommendations() -> None:
    pipeline = await open_pipeline()
    before = await recommend(pipeline, "newcomer", top_k=2)
    after = await recommend(pipeline, "newcomer", top_k=2, session_items=["i0"])
    assert item_ids(before) == ["i9", "i8"]
    assert item_ids(after) == ["i1", "i2"]
    assert (after.tier, after.tier_reason) == (Tier.PERSONALIZED, "complete")


async def test_the_session_is_newer_than_the_history_and_only_the_newest_items_are_encoded() -> None:
    class Remembers(InMemoryRanker):
        encoded: tuple[str, ...] = ()

        async def encode(self, recent_items: Sequence[str], *_: object) -> QueryEmbedding:
            self.encoded = tuple(recent_items)
            return await super().encode(recent_items)

    encoder = Remembers(RELEASE, VECTORS)
    await recommend(await open_pipeline(encoder=encoder), session_items=["i3"] * (MAX_HISTORY - 1))
    assert encoder.encoded == ("i0", *["i3"] * (MAX_HISTORY - 1))
    await recommend(await open_pipeline(encoder=encoder), session_items=["i3"] * MAX_HISTORY)
    assert encoder.encoded == ("i3",) * MAX_HISTORY


async def test_candidates_of_other_sources_are_ranked_beside_those_of_the_index() -> None:
    encoder = InMemoryRanker(RELEASE, VECTORS, other_candidates={"trending": ["i0", "i9", "i1"], "own": ["i9", "i7"]})
    index = Counting(index_of(["i1", "i2"]))
    pipeline = await open_pipeline(encoder=encoder, index=index, num_candidates=NUM_CANDIDATES)
    response = await recommend(pipeline, top_k=4, exclude_items=["i7"])
    assert item_ids(response) == ["i1", "i2", "i9", "i8"]  # i0 is seen, i7 is excluded, and i8 is popular
    assert [each.score is None for each in response.recommendations] == [False, False, False, True]
    assert response.total_candidates == 3
    assert index.asked == [NUM_CANDIDATES - 2]  # i9 and i1 are there already


async def test_a_response_reports_which_sources_found_each_item() -> None:
    encoder = InMemoryRanker(RELEASE, VECTORS, other_candidates={"own": ["i9"], "trending": ["i1", "i9", "i7", "i6"]})
    pipeline = await open_pipeline(encoder=encoder, index=index_of(["i1", "i2"]), num_candidates=NUM_CANDIDATES // 2)
    response = await recommend(pipeline, top_k=4, debug=True)
    assert response.debug is not None
    # With half the budget, the own items are none, and the trending ones are i1 and i9; i8 is popular.
    assert response.debug.sources == {"i1": ["towers", "trending"], "i2": ["towers"], "i9": ["trending"], "i8": []}


async def test_items_of_the_caller_have_no_source() -> None:
    response = await recommend(await open_pipeline(), candidate_items=["i1"], debug=True)
    assert response.debug is not None
    assert response.debug.sources == {"i1": []}


async def test_if_ranking_fails_only_the_index_can_order_its_candidates() -> None:
    encoder = InMemoryRanker(RELEASE, VECTORS, other_candidates={"trending": ["i9"]})
    ports = {"encoder": encoder, "index": index_of(["i1", "i2"]), "ranker": Broken(UpstreamUnavailable("gone"))}
    response = await recommend(await open_pipeline(num_candidates=NUM_CANDIDATES, **ports), top_k=2)
    assert (item_ids(response), response.tier) == (["i1", "i2"], Tier.RETRIEVED)


async def test_too_few_candidates_are_backfilled_with_popular_items_without_a_score() -> None:
    response = await recommend(await open_pipeline(num_candidates=2), top_k=5, exclude_items=["i8"])
    assert item_ids(response) == ["i1", "i2", "i9", "i7", "i6"]
    assert [each.score is None for each in response.recommendations] == [False, False, True, True, True]
    assert [each.rank for each in response.recommendations] == [1, 2, 3, 4, 5]
    assert all(each.title for each in response.recommendations)
    assert response.tier == Tier.PERSONALIZED


# --- unknown users ----------------------------------------------------------------------------------------------------


async def test_an_unknown_user_gets_popular_items() -> None:
    response = await recommend(await open_pipeline(), "newcomer", top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "unknown_user")
    assert (response.release_version, response.recommendations[0].title) == (RELEASE, "Thing i9")


async def test_a_user_without_known_items_gets_popular_items() -> None:
    response = await recommend(await open_pipeline(), "newcomer", session_items=["unknown item"], top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "no_known_items")


async def test_popular_items_are_served_if_all_candidates_are_excluded() -> None:
    response = await recommend(await open_pipeline(index=index_of(["i0"])), top_k=2)
    assert item_ids(response) == ["i9", "i8"]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "no_candidates")


async def test_without_any_release_popular_items_are_served_without_titles() -> None:
    broken = Broken(ReleaseNotLoaded("none yet"))
    response = await recommend(
        await open_pipeline(serving=None, encoder=broken, ranker=broken, index=broken, catalogue=broken), top_k=3
    )
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "encode:release_not_loaded")
    assert response.release_version is None
    assert response.recommendations[0].title is None


# --- the failure table ------------------------------------------------------------------------------------------------


async def test_without_the_rankers_scores_the_order_of_the_index_is_served(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(ranker=broken), top_k=3)
    assert item_ids(response) == ["i1", "i2", "i9"]
    assert (response.tier, response.tier_reason) == (Tier.RETRIEVED, f"rank:{code(failure)}")
    assert response.release_version == RELEASE
    near = await working_ports()["index"].search(RELEASE, [1.0, 0.0, 1.0], 3, {"i0"})
    assert [each.score for each in response.recommendations] == [each.similarity for each in near]


async def test_without_the_index_popular_items_are_served(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(index=broken, catalogue=broken), top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, f"retrieve:{code(failure)}")


async def test_without_an_encoder_popular_items_are_served(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(encoder=broken), top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, f"encode:{code(failure)}")


async def test_without_user_features_popular_items_are_served(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(features=NoUsers(broken)), top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, f"features:{code(failure)}")


async def test_without_the_feature_store_the_remembered_popular_items_are_served(broken: Broken, failure: str) -> None:
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()
    store.user_features = store.popular = broken.fail
    response = await recommend(pipeline, top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert (response.tier, response.tier_reason) == (Tier.STATIC, f"features:{code(failure)}")


async def test_a_session_is_enough_if_features_are_missing(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(features=NoUsers(broken)), session_items=["i0"], top_k=2)
    assert item_ids(response) == ["i1", "i2"]
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, f"features:{code(failure)}")


async def test_without_popular_items_the_remembered_ones_are_used_for_backfill(broken: Broken, failure: str) -> None:
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store, num_candidates=2)
    await pipeline.remember_popular()
    store.popular = broken.fail
    assert item_ids(await recommend(pipeline, top_k=4)) == ["i1", "i2", "i9", "i8"]


async def test_without_a_catalogue_only_the_titles_are_missing(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(catalogue=broken), "newcomer", top_k=3)
    assert item_ids(response) == POPULAR[:3]
    assert {each.title for each in response.recommendations} == {None}
    assert response.tier == Tier.POPULAR


async def test_without_a_catalogue_the_model_still_recommends(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(catalogue=broken), top_k=3)
    assert item_ids(response) == ["i1", "i2", "i9"]
    assert {each.title for each in response.recommendations} == {None}
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, f"describe:{code(failure)}")


async def test_without_the_index_every_item_still_has_its_title() -> None:
    response = await recommend(await open_pipeline(index=Broken(UpstreamUnavailable("cannot be reached"))), top_k=3)
    assert [each.title for each in response.recommendations] == ["Thing i9", "Thing i8", "Thing i7"]


async def test_given_candidates_are_ordered_by_popularity_if_the_ranker_fails(broken: Broken, failure: str) -> None:
    response = await recommend(await open_pipeline(ranker=broken), candidate_items=["unknown", "i1", "i5", "i3"])
    assert item_ids(response) == ["i5", "i3", "i1", "unknown"]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, f"rank:{code(failure)}")


async def test_given_candidates_keep_the_callers_order_if_everything_fails() -> None:
    broken = Broken(UpstreamUnavailable("cannot be reached"))
    response = await recommend(
        await open_pipeline(features=broken, encoder=broken, index=broken, ranker=broken, catalogue=broken),
        candidate_items=["i3", "i1", "i2"],
    )
    assert item_ids(response) == ["i3", "i1", "i2"]
    assert (response.tier, response.tier_reason) == (Tier.STATIC, "features:upstream_unavailable")


@pytest.mark.parametrize("stage", ["features", "encoder", "index", "ranker"])
async def test_if_popular_items_are_known_no_failure_empties_the_response(stage: str, broken: Broken) -> None:
    pipeline = await open_pipeline(**{stage: broken})
    if stage == "features":
        pipeline._fallback._last_popular = [PopularItem(item_id="i9", popularity=1.0)]
    assert item_ids(await recommend(pipeline))


@pytest.mark.parametrize("stage", ["features", "encoder", "index", "ranker", "catalogue"])
@pytest.mark.parametrize("bug", [TypeError("a bug"), KeyError("a bug"), InvalidRequest("not an upstream error")])
async def test_a_bug_raises_in_every_stage(stage: str, bug: InvalidRequest | KeyError | TypeError) -> None:
    pipeline = await open_pipeline(**{stage: Broken(bug)}, num_candidates=2)
    with pytest.raises(type(bug)):
        await recommend(pipeline, top_k=5)


async def test_the_first_failure_is_the_reported_reason() -> None:
    broken = {"encoder": Broken(UpstreamTimeout("slow")), "catalogue": Broken(UpstreamUnavailable("cannot be reached"))}
    response = await recommend(await open_pipeline(**broken), top_k=3)
    assert response.tier_reason == "encode:upstream_timeout"


async def test_if_every_port_hangs_the_response_still_meets_the_deadline() -> None:
    hangs = Broken(None)
    pipeline = await open_pipeline(features=hangs, encoder=hangs, index=hangs, ranker=hangs, catalogue=hangs)
    pipeline._fallback._last_popular = [PopularItem(item_id="i9", popularity=1.0)]
    response = await recommend(pipeline)
    assert item_ids(response) == ["i9"]
    assert response.timings_ms["features"] < DEADLINE_SECONDS * 1000


# --- releases are never mixed -----------------------------------------------------------------------------------------


KINDS = EventKinds({"glance": KindMeaning(seen=False), "dislike": KindMeaning(negative=True)})


@pytest.mark.parametrize("exclude_seen", [True, False])
async def test_what_a_user_does_not_want_and_its_near_neighbours_are_kept_away(exclude_seen: bool) -> None:
    vectors = {**VECTORS, "i9": VECTORS["i1"], "i8": VECTORS["i2"]}
    store, ranker = InMemoryFeatureStore(), InMemoryRanker(RELEASE, vectors, exclude_seen=exclude_seen)
    pipeline = await open_pipeline(features=store, encoder=ranker, ranker=ranker)
    assert {"i1", "i9"} < set(item_ids(await recommend(pipeline, top_k=8)))
    dislike = Event(user_id=READER, item_id="i1", event="dislike", timestamp=2000)
    await store.record([dislike], {"i1"}, KINDS)
    response = await recommend(pipeline, top_k=5)
    assert not {"i1", "i9"} & set(item_ids(response))
    assert {"i2", "i8"} < set(item_ids(response))
    assert len(response.recommendations) == 5
    assert response.tier == Tier.PERSONALIZED
    assert "i1" in item_ids(await recommend(pipeline, user_id="other", top_k=10))


async def test_what_a_user_does_not_want_is_not_among_popular_items_either() -> None:
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    dislike = Event(user_id="new", item_id="i9", event="dislike", timestamp=2000)
    await store.record([dislike], {"i9"}, KINDS)
    response = await recommend(pipeline, user_id="new", top_k=9)
    assert (response.tier, item_ids(response)[0]) == (Tier.POPULAR, "i8")
    assert "i9" not in item_ids(response)


async def test_an_item_that_does_not_count_as_seen_may_be_recommended_again() -> None:
    class Remembers(InMemoryRanker):
        unseen: Sequence[str] = ()

        async def encode(
            self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
        ) -> QueryEmbedding:
            self.unseen = unseen_items
            return await super().encode(recent_items, release_version)

    store, encoder = InMemoryFeatureStore(), Remembers(RELEASE, VECTORS)
    pipeline = await open_pipeline(features=store, encoder=encoder)
    glances = [Event(user_id=READER, item_id=item_id, event="glance", timestamp=2000) for item_id in ("i1", "i2")]
    await store.record(glances, {"i1", "i2"}, KINDS)
    assert {"i1", "i2"} <= set(item_ids(await recommend(pipeline, top_k=9)))
    assert set(encoder.unseen) == {"i1", "i2"}
    in_session = await recommend(pipeline, session_items=["i2"], top_k=9)
    assert "i2" not in item_ids(in_session)
    assert set(encoder.unseen) == {"i1"}


async def test_scores_from_other_weights_are_refused() -> None:
    class WrongRelease(InMemoryRanker):
        async def rank(self, recent_items: Sequence[str], candidate_items: Sequence[str], *_: object) -> RankedScores:
            scores = await super().rank(recent_items, candidate_items)
            return RankedScores(
                release_version=RELEASE, weights_hash="others", personalized=True, scores=scores.scores[::-1]
            )

    response = await recommend(await open_pipeline(ranker=WrongRelease(RELEASE, VECTORS)), top_k=3)
    assert item_ids(response) == ["i1", "i2", "i9"]
    assert (response.tier, response.tier_reason) == (Tier.RETRIEVED, "rank:release_mismatch")


async def test_the_collection_of_the_encoders_release_is_searched_and_scored() -> None:
    class NewRelease(InMemoryRanker):
        """Encodes with the next release, as after a promotion."""

        async def encode(self, recent_items: Sequence[str], *_: object) -> QueryEmbedding:
            encoded = await super().encode(recent_items)
            return QueryEmbedding(release_version=RELEASE + 1, weights_hash="", query_embedding=encoded.query_embedding)

    response = await recommend(await open_pipeline(encoder=NewRelease(RELEASE, VECTORS)), top_k=3)
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "retrieve:release_not_loaded")
    assert response.release_version == RELEASE


async def test_a_collection_with_other_weights_is_refused_even_if_its_version_matches() -> None:
    response = await recommend(await open_pipeline(index=index_of(ITEMS, "others")), top_k=3)
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "retrieve:release_mismatch")


async def test_a_response_reports_its_weights_only_if_debug_is_set() -> None:
    pipeline = await open_pipeline()
    assert (await recommend(pipeline)).debug is None
    debug = DebugInfo(query="", collection="", rank="", sources={"i1": ["towers"]})
    assert (await recommend(pipeline, top_k=1, debug=True)).debug == debug


async def test_a_response_and_its_id_name_the_variant() -> None:
    request = RecommendationRequest(user_id=READER)
    response = await (await open_pipeline()).recommend(request, "challenger", RELEASE)
    assert response.variant == "challenger"
    assert response.recommendation_id.endswith(".challenger")


# --- the caller's own candidates --------------------------------------------------------------------------------------


async def test_given_candidates_are_ranked_with_unknown_ones_last_in_the_callers_order() -> None:
    candidates = ["z?", "i3", "a?", "i1", "i2"]
    response = await recommend(await open_pipeline(), candidate_items=candidates)
    assert item_ids(response) == ["i1", "i2", "i3", "z?", "a?"]
    assert [each.score is None for each in response.recommendations] == [False, False, False, True, True]
    assert response.total_candidates == 5
    assert (response.tier, response.tier_reason) == (Tier.PERSONALIZED, "complete")


async def test_a_duplicate_candidate_is_returned_once() -> None:
    response = await recommend(await open_pipeline(), candidate_items=["i3", "i1", "i3", "x", "x"])
    assert item_ids(response) == ["i1", "i3", "x"]


async def test_given_candidates_may_be_seen_items_but_not_excluded_ones() -> None:
    response = await recommend(await open_pipeline(), candidate_items=["i0", "i1", "i2"], exclude_items=["i1"])
    assert item_ids(response) == ["i0", "i2"]


async def test_given_candidates_are_never_backfilled() -> None:
    response = await recommend(await open_pipeline(), candidate_items=["i1"], top_k=5)
    assert item_ids(response) == ["i1"]


async def test_given_candidates_are_limited_to_top_k_after_ranking() -> None:
    assert item_ids(await recommend(await open_pipeline(), candidate_items=["i3", "i2", "i1"], top_k=1)) == ["i1"]


async def test_an_unknown_users_candidates_are_ordered_by_the_models_popularity() -> None:
    response = await recommend(await open_pipeline(), "newcomer", candidate_items=["i1", "i9", "?", "i5"])
    assert item_ids(response) == ["i9", "i5", "i1", "?"]
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "unknown_user")


async def test_a_user_without_known_items_has_another_reason_than_an_unknown_user() -> None:
    response = await recommend(await open_pipeline(), "newcomer", session_items=["?"], candidate_items=["i1", "i9"])
    assert (response.tier, response.tier_reason) == (Tier.POPULAR, "no_known_items")
