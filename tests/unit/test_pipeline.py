"""The whole way of a request over the in-memory adapters, and what is served when a stage fails."""

import pytest

from recsys.adapters.in_memory import InMemoryCatalogue, InMemoryFeatureStore, InMemoryRanker
from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY
from recsys.contracts.features import PopularItem, PrecomputedList, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recommendation import Provenance, RecommendationRequest, Tier
from recsys.contracts.retrieval import QueryEmbedding
from recsys.deadline import Deadline
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
    VOCABULARY,
    Broken,
    NoPopular,
    NoUsers,
    described,
    index_of,
    item_ids,
    open_pipeline,
    recommend,
    seen,
    working_ports,
)

FAILURES = {
    "upstream_unavailable": UpstreamUnavailable("away"),
    "upstream_invalid": UpstreamAnswerInvalid("garbage"),
    "upstream_timeout": UpstreamTimeout("too late"),
    "release_not_loaded": ReleaseNotLoaded("gone"),
    "hangs": None,
}


def code(failure: str) -> str:
    return "upstream_timeout" if failure == "hangs" else failure


@pytest.fixture(params=FAILURES)
def failure(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def broken(failure: str) -> Broken:
    return Broken(FAILURES[failure])


# --- nothing fails ----------------------------------------------------------------------------------------------------


async def test_a_known_user_gets_what_the_model_ranks_best():
    answer = await recommend(await open_pipeline(), top_k=3)
    assert item_ids(answer) == ["i1", "i2", "i9"]
    assert [each.rank for each in answer.recommendations] == [1, 2, 3]
    assert (answer.tier, answer.tier_reason) == (Tier.PERSONALIZED, "complete")
    assert (answer.release_version, answer.user_id) == (RELEASE, READER)


async def test_scores_are_the_rankers_and_fall():
    answer = await recommend(await open_pipeline(), top_k=9)
    ranked = await InMemoryRanker(RELEASE, VECTORS).rank(["i0"], item_ids(answer))
    scores = [each.score for each in answer.recommendations]
    assert scores == ranked.scores == sorted(scores, reverse=True)


async def test_recommendations_are_described():
    answer = await recommend(await open_pipeline(), top_k=1)
    assert answer.recommendations[0].title == "Thing i1"
    assert answer.recommendations[0].metadata == {"year": 2000}


async def test_every_answer_has_an_id_of_its_own():
    pipeline = await open_pipeline()
    assert (await recommend(pipeline)).recommendation_id != (await recommend(pipeline)).recommendation_id


async def test_every_stage_that_ran_is_timed():
    answer = await recommend(await open_pipeline(), top_k=3)
    assert list(answer.timings_ms) == ["features", "encode", "retrieve", "rank", "describe", "total"]
    assert all(value >= 0 for value in answer.timings_ms.values())
    assert answer.timings_ms["total"] >= max(value for name, value in answer.timings_ms.items() if name != "total")


async def test_backfill_is_timed_where_it_runs():
    answer = await recommend(await open_pipeline(num_candidates=2), top_k=5)
    assert "backfill" in answer.timings_ms


async def test_top_k_bounds_the_answer_and_not_what_was_considered():
    answer = await recommend(await open_pipeline(), top_k=2)
    assert len(answer.recommendations) == 2
    assert answer.total_candidates == 9


async def test_what_was_seen_is_never_recommended():
    store = InMemoryFeatureStore()
    await store.record([seen("fan", item_id, at) for at, item_id in enumerate(["i1", "i2", "i3"])])
    answer = await recommend(await open_pipeline(features=store), "fan", top_k=10)
    assert set(item_ids(answer)) == set(ITEMS) - {"i1", "i2", "i3"}


async def test_where_the_release_allows_for_repeats_only_the_callers_exclusions_hold():
    ranker = InMemoryRanker(RELEASE, VECTORS, exclude_seen=False)
    answer = await recommend(await open_pipeline(encoder=ranker), session_items=["i1"], exclude_items=["i2"])
    assert set(item_ids(answer)) == set(ITEMS) - {"i2"}


async def test_where_nobody_says_that_repeats_are_wanted_there_are_none():
    answer = await recommend(await open_pipeline(encoder=Broken(UpstreamTimeout("late"))))
    assert set(item_ids(answer)) == set(ITEMS) - {"i0"}


async def test_what_was_seen_longer_ago_than_the_history_goes_is_not_recommended_either():
    store = InMemoryFeatureStore()
    await store.record([seen("fan", "i1", 0), *(seen("fan", "i0", at) for at in range(1, MAX_HISTORY + 1))])
    assert "i1" not in (await store.user_features("fan")).recent_items
    assert "i1" not in item_ids(await recommend(await open_pipeline(features=store), "fan"))


async def test_excluded_items_and_those_of_the_session_are_not_recommended():
    answer = await recommend(await open_pipeline(), session_items=["i2"], exclude_items=["i9", "nobody knows"])
    assert not {"i0", "i2", "i9"} & set(item_ids(answer))


async def test_a_session_changes_what_comes_first():
    pipeline = await open_pipeline()
    before = await recommend(pipeline, "newcomer", top_k=2)
    after = await recommend(pipeline, "newcomer", top_k=2, session_items=["i0"])
    assert item_ids(before) == ["i9", "i8"]
    assert item_ids(after) == ["i1", "i2"]
    assert (after.tier, after.tier_reason) == (Tier.PERSONALIZED, "complete")


async def test_the_session_is_newer_than_the_history_and_only_the_newest_items_are_encoded():
    class Remembers(InMemoryRanker):
        encoded: tuple[str, ...] = ()

        async def encode(self, recent_items, release=None):
            self.encoded = tuple(recent_items)
            return await super().encode(recent_items)

    encoder = Remembers(RELEASE, VECTORS)
    await recommend(await open_pipeline(encoder=encoder), session_items=["i3"] * (MAX_HISTORY - 1))
    assert encoder.encoded == ("i0", *["i3"] * (MAX_HISTORY - 1))
    await recommend(await open_pipeline(encoder=encoder), session_items=["i3"] * MAX_HISTORY)
    assert encoder.encoded == ("i3",) * MAX_HISTORY


async def test_too_few_candidates_are_filled_up_with_popular_items_without_a_score():
    answer = await recommend(await open_pipeline(num_candidates=2), top_k=5, exclude_items=["i8"])
    assert item_ids(answer) == ["i1", "i2", "i9", "i7", "i6"]
    assert [each.score is None for each in answer.recommendations] == [False, False, True, True, True]
    assert [each.rank for each in answer.recommendations] == [1, 2, 3, 4, 5]
    assert all(each.title for each in answer.recommendations)
    assert answer.tier == Tier.PERSONALIZED


# --- users of whom nothing is known -----------------------------------------------------------------------------------


async def test_an_unknown_user_gets_what_is_popular():
    answer = await recommend(await open_pipeline(), "newcomer", top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "unknown_user")
    assert (answer.release_version, answer.recommendations[0].title) == (RELEASE, "Thing i9")


async def test_a_user_of_whose_items_the_model_knows_none_gets_what_is_popular():
    answer = await recommend(await open_pipeline(), "newcomer", session_items=["new to us"], top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "no_known_items")


async def test_where_everything_near_is_excluded_popular_items_are_served():
    answer = await recommend(await open_pipeline(index=index_of(["i0"])), top_k=2)
    assert item_ids(answer) == ["i9", "i8"]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "no_candidates")


async def test_without_any_release_what_is_popular_is_served_without_titles():
    away = Broken(ReleaseNotLoaded("none yet"))
    answer = await recommend(await open_pipeline(serving=None, encoder=away, ranker=away, index=away, catalogue=away))
    assert item_ids(answer) == POPULAR[:-1]  # i0 was seen
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "encode:release_not_loaded")
    assert answer.release_version is None
    assert answer.recommendations[0].title is None


async def test_an_empty_world_answers_with_an_empty_list_and_says_why():
    answer = await recommend(await open_pipeline(features=Broken(UpstreamUnavailable("away"))))
    assert answer.recommendations == []
    assert (answer.tier, answer.tier_reason) == (Tier.STATIC, "features:upstream_unavailable")


# --- the failure table ------------------------------------------------------------------------------------------------


async def test_without_the_rankers_scores_the_order_of_the_index_is_served(broken, failure):
    answer = await recommend(await open_pipeline(ranker=broken), top_k=3)
    assert item_ids(answer) == ["i1", "i2", "i9"]
    assert (answer.tier, answer.tier_reason) == (Tier.RETRIEVED, f"rank:{code(failure)}")
    assert answer.release_version == RELEASE
    near = await working_ports()["index"].search(RELEASE, [1.0, 0.0, 1.0], 3, {"i0"})
    assert [each.score for each in answer.recommendations] == [each.similarity for each in near]


async def test_without_the_index_what_is_popular_is_served(broken, failure):
    answer = await recommend(await open_pipeline(index=broken, catalogue=broken), top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, f"retrieve:{code(failure)}")


async def test_without_an_encoder_what_is_popular_is_served(broken, failure):
    answer = await recommend(await open_pipeline(encoder=broken), top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, f"encode:{code(failure)}")


async def test_without_the_users_features_what_is_popular_is_served(broken, failure):
    answer = await recommend(await open_pipeline(features=NoUsers(broken)), top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, f"features:{code(failure)}")


async def test_without_the_feature_store_the_popular_items_that_were_seen_last_are_served(broken, failure):
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()
    store.user_features = store.popular = broken.fail
    answer = await recommend(pipeline, top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert (answer.tier, answer.tier_reason) == (Tier.STATIC, f"features:{code(failure)}")


async def test_a_session_makes_up_for_features_that_are_away(broken, failure):
    answer = await recommend(await open_pipeline(features=NoUsers(broken)), session_items=["i0"], top_k=2)
    assert item_ids(answer) == ["i1", "i2"]
    assert (answer.tier, answer.tier_reason) == (Tier.PERSONALIZED, f"features:{code(failure)}")


async def test_without_popular_items_to_fill_up_with_the_answer_is_only_shorter(broken, failure):
    answer = await recommend(await open_pipeline(features=NoPopular(broken), num_candidates=2), top_k=5)
    assert item_ids(answer) == ["i1", "i2"]
    assert (answer.tier, answer.tier_reason) == (Tier.PERSONALIZED, f"backfill:{code(failure)}")


async def test_without_popular_items_the_remembered_ones_fill_up(broken, failure):
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store, num_candidates=2)
    await pipeline.remember_popular()
    store.popular = broken.fail
    assert item_ids(await recommend(pipeline, top_k=4)) == ["i1", "i2", "i9", "i8"]


async def test_without_a_catalogue_only_the_titles_are_missing(broken, failure):
    answer = await recommend(await open_pipeline(catalogue=broken), "newcomer", top_k=3)
    assert item_ids(answer) == POPULAR[:3]
    assert {each.title for each in answer.recommendations} == {None}
    assert answer.tier == Tier.POPULAR


async def test_without_a_catalogue_the_model_recommends_all_the_same(broken, failure):
    answer = await recommend(await open_pipeline(catalogue=broken), top_k=3)
    assert item_ids(answer) == ["i1", "i2", "i9"]
    assert {each.title for each in answer.recommendations} == {None}
    assert (answer.tier, answer.tier_reason) == (Tier.PERSONALIZED, f"describe:{code(failure)}")


async def test_without_the_index_every_item_still_has_its_title():
    answer = await recommend(await open_pipeline(index=Broken(UpstreamUnavailable("away"))), top_k=3)
    assert [each.title for each in answer.recommendations] == ["Thing i9", "Thing i8", "Thing i7"]


async def test_given_candidates_are_ordered_by_popularity_where_there_is_no_ranker(broken, failure):
    answer = await recommend(await open_pipeline(ranker=broken), candidate_items=["nobody's", "i1", "i5", "i3"])
    assert item_ids(answer) == ["i5", "i3", "i1", "nobody's"]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, f"rank:{code(failure)}")


async def test_given_candidates_keep_the_callers_order_where_nothing_can_be_had():
    away = Broken(UpstreamUnavailable("away"))
    answer = await recommend(
        await open_pipeline(features=away, encoder=away, index=away, ranker=away, catalogue=away),
        candidate_items=["i3", "i1", "i2"],
    )
    assert item_ids(answer) == ["i3", "i1", "i2"]
    assert (answer.tier, answer.tier_reason) == (Tier.STATIC, "features:upstream_unavailable")


@pytest.mark.parametrize("stage", ["features", "encoder", "index", "ranker"])
async def test_where_popular_items_are_known_no_failure_leaves_the_answer_empty(stage, broken):
    pipeline = await open_pipeline(**{stage: broken})
    if stage == "features":
        pipeline._last_popular = [PopularItem(item_id="i9", popularity=1.0)]
    assert item_ids(await recommend(pipeline))


@pytest.mark.parametrize("stage", ["features", "encoder", "index", "ranker", "catalogue"])
@pytest.mark.parametrize("mistake", [TypeError("a bug"), KeyError("a bug"), InvalidRequest("not an upstream's fault")])
async def test_a_programmers_mistake_raises_wherever_it_is(stage, mistake):
    pipeline = await open_pipeline(**{stage: Broken(mistake)}, num_candidates=2)
    with pytest.raises(type(mistake)):
        await recommend(pipeline, top_k=5)


async def test_the_first_thing_that_went_wrong_is_the_one_that_is_told():
    broken = {"encoder": Broken(UpstreamTimeout("slow")), "catalogue": Broken(UpstreamUnavailable("away"))}
    answer = await recommend(await open_pipeline(**broken))
    assert answer.tier_reason == "encode:upstream_timeout"


async def test_when_every_port_hangs_the_answer_still_comes_within_the_deadline():
    hangs = Broken(None)
    pipeline = await open_pipeline(features=hangs, encoder=hangs, index=hangs, ranker=hangs, catalogue=hangs)
    pipeline._last_popular = [PopularItem(item_id="i9", popularity=1.0)]
    answer = await recommend(pipeline)
    assert item_ids(answer) == ["i9"]
    assert answer.timings_ms["features"] < DEADLINE_SECONDS * 1000


# --- releases are never mixed -----------------------------------------------------------------------------------------


async def test_scores_by_other_weights_are_refused():
    class WrongRelease(InMemoryRanker):
        async def rank(self, recent_items, candidate_items, release=None):
            scores = await super().rank(recent_items, candidate_items)
            return RankedScores(
                release_version=RELEASE, weights_hash="others", personalized=True, scores=scores.scores[::-1]
            )

    answer = await recommend(await open_pipeline(ranker=WrongRelease(RELEASE, VECTORS)), top_k=3)
    assert item_ids(answer) == ["i1", "i2", "i9"]
    assert (answer.tier, answer.tier_reason) == (Tier.RETRIEVED, "rank:release_mismatch")


async def test_the_collection_of_the_encoders_release_is_searched_and_scored():
    class NewRelease(InMemoryRanker):
        """Encodes with the next release, as after a promotion between two requests."""

        async def encode(self, recent_items, release=None):
            encoded = await super().encode(recent_items)
            return QueryEmbedding(release_version=RELEASE + 1, weights_hash="", query_embedding=encoded.query_embedding)

    answer = await recommend(await open_pipeline(encoder=NewRelease(RELEASE, VECTORS)))
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "retrieve:release_not_loaded")
    assert answer.release_version == RELEASE


async def test_a_collection_by_other_weights_is_refused_though_its_number_is_right():
    answer = await recommend(await open_pipeline(index=index_of(ITEMS, "others")))
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "retrieve:release_mismatch")


async def test_an_answer_tells_which_weights_made_it_where_it_is_asked():
    pipeline = await open_pipeline()
    assert (await recommend(pipeline)).debug is None
    assert (await recommend(pipeline, debug=True)).debug == Provenance(query="", collection="", rank="")


async def test_an_answer_names_its_variant_and_so_does_its_id():
    request = RecommendationRequest(user_id=READER)
    answer = await (await open_pipeline()).recommend(request, Deadline(DEADLINE_SECONDS), "challenger", RELEASE)
    assert answer.variant == "challenger"
    assert answer.recommendation_id.endswith(".challenger")


# --- lists computed ahead ---------------------------------------------------------------------------------------------


class ComputedAhead(InMemoryFeatureStore):
    """Every user has a list by an older release."""

    def __init__(self, vocabulary_hash: str) -> None:
        super().__init__()
        self._ahead = PrecomputedList(
            release_version=RELEASE - 1, vocabulary_hash=vocabulary_hash, item_ids=["i0", "i5", "i4"]
        )

    async def user_features(self, user_id):
        return (await super().user_features(user_id)).model_copy(update={"precomputed": self._ahead})


@pytest.mark.parametrize("port", ["encoder", "index"])
async def test_without_encode_or_retrieval_the_list_computed_ahead_is_served_without_what_was_seen(port):
    pipeline = await open_pipeline(features=ComputedAhead(VOCABULARY), **{port: Broken(UpstreamUnavailable("away"))})
    answer = await recommend(pipeline)
    assert item_ids(answer) == ["i5", "i4"]
    assert (answer.tier, answer.release_version) == (Tier.PRECOMPUTED, RELEASE - 1)
    assert answer.tier_reason.endswith("upstream_unavailable")


async def test_a_list_by_a_release_that_is_gone_is_described_by_the_champion():
    pipeline = await open_pipeline(features=ComputedAhead(VOCABULARY), index=Broken(UpstreamUnavailable("away")))
    answer = await recommend(pipeline)
    assert [each.title for each in answer.recommendations] == ["Thing i5", "Thing i4"]


async def test_a_list_by_a_release_that_is_here_is_described_by_it():
    older = {RELEASE - 1: [described("i5").item._replace(title="By the older release")]}
    pipeline = await open_pipeline(
        features=ComputedAhead(VOCABULARY),
        index=Broken(UpstreamUnavailable("away")),
        catalogue=InMemoryCatalogue({RELEASE: [], **older}),
    )
    assert (await recommend(pipeline)).recommendations[0].title == "By the older release"


async def test_a_list_of_other_items_than_the_serving_release_knows_is_not_served():
    pipeline = await open_pipeline(features=ComputedAhead("other"), encoder=Broken(UpstreamUnavailable("away")))
    answer = await recommend(pipeline)
    assert answer.tier == Tier.POPULAR
    assert item_ids(answer)[:2] == ["i9", "i8"]


# --- the caller's own candidates --------------------------------------------------------------------------------------


async def test_given_candidates_come_back_ranked_with_the_unknown_ones_last_in_the_callers_order():
    candidates = ["z?", "i3", "a?", "i1", "i2"]
    answer = await recommend(await open_pipeline(), candidate_items=candidates)
    assert item_ids(answer) == ["i1", "i2", "i3", "z?", "a?"]
    assert [each.score is None for each in answer.recommendations] == [False, False, False, True, True]
    assert answer.total_candidates == 5
    assert (answer.tier, answer.tier_reason) == (Tier.PERSONALIZED, "complete")


async def test_a_candidate_that_is_given_twice_comes_back_once():
    answer = await recommend(await open_pipeline(), candidate_items=["i3", "i1", "i3", "x", "x"])
    assert item_ids(answer) == ["i1", "i3", "x"]


async def test_given_candidates_may_have_been_seen_but_not_excluded():
    answer = await recommend(await open_pipeline(), candidate_items=["i0", "i1", "i2"], exclude_items=["i1"])
    assert item_ids(answer) == ["i0", "i2"]


async def test_given_candidates_are_never_filled_up():
    answer = await recommend(await open_pipeline(), candidate_items=["i1"], top_k=5)
    assert item_ids(answer) == ["i1"]


async def test_given_candidates_are_cut_to_top_k_after_they_were_ranked():
    assert item_ids(await recommend(await open_pipeline(), candidate_items=["i3", "i2", "i1"], top_k=1)) == ["i1"]


async def test_an_unknown_users_candidates_come_back_by_what_the_model_takes_for_popular():
    answer = await recommend(await open_pipeline(), "newcomer", candidate_items=["i1", "i9", "?", "i5"])
    assert item_ids(answer) == ["i9", "i5", "i1", "?"]
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "unknown_user")


async def test_a_user_of_unknown_items_is_told_apart_from_an_unknown_user():
    answer = await recommend(await open_pipeline(), "newcomer", session_items=["?"], candidate_items=["i1", "i9"])
    assert (answer.tier, answer.tier_reason) == (Tier.POPULAR, "no_known_items")


# --- popular, for no one in particular --------------------------------------------------------------------------------


async def test_popular_items_come_best_first_and_described():
    answer = await (await open_pipeline()).popular(3, Deadline(DEADLINE_SECONDS))
    assert item_ids(answer) == POPULAR[:3]
    assert answer.recommendations[0].title == "Thing i9"
    assert answer.release_version == RELEASE


async def test_popular_items_are_remembered_for_the_time_when_they_cannot_be_had():
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()
    store.popular = Broken(UpstreamUnavailable("away")).fail
    assert item_ids(await pipeline.popular(2, Deadline(DEADLINE_SECONDS))) == POPULAR[:2]


async def test_an_empty_answer_does_not_replace_the_popular_items_that_are_remembered():
    store = InMemoryFeatureStore()
    pipeline = await open_pipeline(features=store)
    await pipeline.remember_popular()

    async def nothing(_: int) -> list[PopularItem]:
        return []

    store.popular = nothing
    await pipeline.remember_popular()
    store.popular = Broken(UpstreamUnavailable("away")).fail
    assert item_ids(await pipeline.popular(2, Deadline(DEADLINE_SECONDS))) == POPULAR[:2]


async def test_the_feature_store_is_never_asked_for_more_popular_items_than_it_gives():
    class Asked(InMemoryFeatureStore):
        depth = 0

        async def user_features(self, user_id):
            seen_items = [f"seen {number}" for number in range(MAX_CANDIDATES)]
            return UserFeatures(user_id=user_id, known=True, recent_items=[], seen_items=seen_items, attributes={})

        async def popular(self, top_k):
            self.depth = top_k
            return await super().popular(top_k)

    store = Asked()
    await recommend(await open_pipeline(features=store))
    assert store.depth == MAX_CANDIDATES
