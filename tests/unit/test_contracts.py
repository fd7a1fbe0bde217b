"""Contracts survive a JSON round trip; requests reject unknown fields, responses ignore them."""

import inspect
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from recsys.contracts import base, events, features, ranking, recommendation, retrieval
from recsys.contracts.base import (
    MAX_CANDIDATES,
    MAX_EXCLUDED,
    MAX_HISTORY,
    MAX_ID_LENGTH,
    MAX_TOP_K,
    ErrorResponse,
    RequestModel,
    ResponseModel,
)
from recsys.contracts.events import (
    LATEST_TIMESTAMP,
    MAX_EVENTS,
    Event,
    EventBatch,
    Events,
    EventsRecorded,
    RecordedEvents,
)
from recsys.contracts.features import (
    PopularItem,
    PopularItems,
    PrecomputedAnswer,
    PrecomputedList,
    SeenAnswer,
    SeenQuestion,
    UserFeatures,
)
from recsys.contracts.ranking import RankedScores, RankRequest
from recsys.contracts.recommendation import (
    DebugInfo,
    Exploration,
    ItemResponse,
    ItemsResponse,
    PopularList,
    Provenance,
    Recommendation,
    RecommendationList,
    RecommendationRequest,
    RecommendationResponse,
    Tier,
)
from recsys.contracts.retrieval import EncodeRequest, QueryEmbedding, SearchSettings, ServingReleases

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID_LENGTH)
id_lists = st.lists(ids, max_size=5)
some_ids = st.lists(ids, min_size=1, max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False)
releases = st.integers(1, 10_000)
metadata = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words | st.lists(words))

precomputed = st.builds(PrecomputedList, release_version=releases, item_ids=id_lists)
search_settings = st.builds(
    SearchSettings, hnsw_ef=st.none() | st.integers(1, 10_000), oversampling=st.none() | st.floats(1, 100)
)
popular_items = st.builds(PopularItem, item_id=ids, popularity=numbers)
any_event = st.builds(
    Event,
    event_id=st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True),
    user_id=ids,
    item_id=ids,
    event=st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True),
    timestamp=st.floats(0, LATEST_TIMESTAMP),
    recommendation_id=st.none() | words,
)
items = st.builds(ItemResponse, item_id=ids, title=words, metadata=metadata)
debug_infos = st.builds(DebugInfo, query=st.none() | words, sources=st.dictionaries(ids, st.lists(words, max_size=2)))
recommendations = st.builds(
    Recommendation,
    item_id=ids,
    score=st.none() | numbers,
    rank=st.integers(1, MAX_TOP_K),
    title=st.none() | words,
    metadata=metadata,
)


def long_lists(most: int) -> st.SearchStrategy[list[str]]:
    """Lists with more than `most` items."""
    return st.tuples(ids, st.integers(most + 1, most + 10)).map(lambda parts: [parts[0]] * parts[1])


MODELS: dict[type[RequestModel | ResponseModel], st.SearchStrategy[Any]] = {
    ErrorResponse: st.builds(ErrorResponse, error=words, detail=words),
    Event: any_event,
    EventBatch: st.lists(st.tuples(any_event, st.booleans()), min_size=1, max_size=3).map(
        lambda pairs: EventBatch(events=[each[0] for each in pairs], known=[each[1] for each in pairs])
    ),
    RecordedEvents: st.builds(RecordedEvents, new=st.lists(st.booleans(), max_size=5)),
    EventsRecorded: st.builds(EventsRecorded, recorded=st.integers(0), duplicates=st.integers(0)),
    UserFeatures: st.builds(
        UserFeatures,
        user_id=ids,
        known=st.booleans(),
        recent_items=id_lists,
        seen_items=id_lists,
        more_seen=st.booleans(),
        attributes=st.dictionaries(words, words),
    ),
    PrecomputedList: precomputed,
    PrecomputedAnswer: st.builds(PrecomputedAnswer, precomputed=st.none() | precomputed),
    SeenQuestion: st.builds(SeenQuestion, item_ids=id_lists),
    SeenAnswer: st.builds(SeenAnswer, item_ids=id_lists),
    PopularItem: popular_items,
    PopularItems: st.builds(PopularItems, items=st.lists(popular_items, max_size=5)),
    RankRequest: st.builds(
        RankRequest, recent_items=id_lists, candidate_items=some_ids, release_version=st.none() | releases
    ),
    RankedScores: st.builds(
        RankedScores,
        release_version=releases,
        weights_hash=words,
        personalized=st.booleans(),
        scores=st.lists(st.none() | numbers),
    ),
    EncodeRequest: st.builds(EncodeRequest, recent_items=some_ids, release_version=st.none() | releases),
    QueryEmbedding: st.builds(
        QueryEmbedding,
        release_version=releases,
        weights_hash=words,
        query_embedding=st.none() | st.lists(numbers),
        exclude_seen=st.booleans(),
    ),
    ServingReleases: st.builds(
        ServingReleases,
        champion=releases,
        challenger=st.none() | releases,
        loaded=st.lists(releases),
        vocabulary_hash=words,
        weights_hashes=st.dictionaries(releases, words),
        search=st.dictionaries(releases, search_settings),
        problems=st.lists(words),
    ),
    SearchSettings: search_settings,
    RecommendationRequest: st.builds(
        RecommendationRequest,
        user_id=ids,
        session_items=id_lists,
        candidate_items=st.none() | some_ids,
        top_k=st.integers(1, MAX_TOP_K),
        debug=st.booleans(),
        exclude_items=id_lists,
    ),
    Recommendation: recommendations,
    RecommendationList: st.builds(
        RecommendationList, recommendations=st.lists(recommendations, max_size=3), release_version=st.none() | releases
    ),
    PopularList: st.builds(
        PopularList,
        recommendations=st.lists(recommendations, max_size=3),
        release_version=st.none() | releases,
        tier=st.sampled_from(Tier),
        tier_reason=words,
    ),
    RecommendationResponse: st.builds(
        RecommendationResponse,
        recommendations=st.lists(recommendations, max_size=3),
        release_version=st.none() | releases,
        recommendation_id=words,
        user_id=ids,
        total_candidates=st.integers(0),
        tier=st.sampled_from(Tier),
        tier_reason=words,
        variant=words,
        timings_ms=st.dictionaries(words, numbers),
        debug=st.none() | debug_infos,
    ),
    DebugInfo: debug_infos,
    Exploration: st.builds(
        Exploration,
        explored=st.lists(st.booleans(), max_size=5),
        propensities=st.lists(st.floats(0.001, 1), max_size=5),
        drawn_from=st.integers(1),
    ),
    Provenance: st.builds(Provenance, query=st.none() | words, collection=st.none() | words, rank=st.none() | words),
    ItemResponse: items,
    ItemsResponse: st.builds(ItemsResponse, items=st.lists(items, max_size=3)),
}
REQUESTS = [model for model in MODELS if issubclass(model, RequestModel)]
RESPONSES = [model for model in MODELS if issubclass(model, ResponseModel)]


def declared() -> set[type[RequestModel | ResponseModel]]:
    classes = [
        value
        for module in (base, events, features, ranking, recommendation, retrieval)
        for value in vars(module).values()
        if inspect.isclass(value)
    ]
    return {cls for cls in classes if issubclass(cls, RequestModel | ResponseModel)} - {RequestModel, ResponseModel}


def by_name(model: type) -> str:
    return model.__name__


def test_every_contract_is_tested_here() -> None:
    assert declared() == set(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=by_name)
@given(data=st.data())
def test_contracts_survive_a_json_round_trip(model: type[BaseModel], data: Any) -> None:
    sent = data.draw(MODELS[model])
    assert model.model_validate_json(sent.model_dump_json()) == sent


@pytest.mark.parametrize("model", REQUESTS, ids=by_name)
@given(data=st.data())
def test_requests_reject_unknown_fields(model: type[BaseModel], data: Any) -> None:
    body = json.loads(data.draw(MODELS[model]).model_dump_json()) | {"no_such_field": 1}
    with pytest.raises(ValidationError, match="no_such_field"):
        model.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("model", RESPONSES, ids=by_name)
@given(data=st.data())
def test_responses_ignore_unknown_fields(model: type[BaseModel], data: Any) -> None:
    response = data.draw(MODELS[model])
    body = json.loads(response.model_dump_json()) | {"from_a_newer_service": 1}
    assert model.model_validate_json(json.dumps(body)) == response


any_text = st.text(max_size=20)  # lone surrogates too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("model", REQUESTS, ids=by_name)
@given(data=st.data())
def test_any_body_is_accepted_or_rejected(model: type[BaseModel], data: Any) -> None:
    body = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(model.model_fields, anything)) | anything)
    try:
        accepted = model.model_validate(body)
    except ValidationError:
        return
    assert model.model_validate_json(accepted.model_dump_json()) == accepted


too_long = st.integers(MAX_ID_LENGTH + 1, 1000).map("x".__mul__)
invalid_id = too_long | st.just("") | st.sampled_from(["\ud800", "a\udfff"]) | st.integers() | st.none()
ids_with_an_invalid_one = st.tuples(id_lists, invalid_id, id_lists).map(lambda parts: [*parts[0], parts[1], *parts[2]])
invalid_release = (
    st.integers(max_value=0) | st.integers(min_value=2**31) | any_text.filter(lambda text: not text.isdigit())
)
OUT_OF_BOUNDS: list[tuple[type[RequestModel], str, st.SearchStrategy[Any]]] = [
    (RecommendationRequest, "user_id", invalid_id),
    (RecommendationRequest, "top_k", st.integers(max_value=0) | st.integers(min_value=MAX_TOP_K + 1)),
    (RecommendationRequest, "session_items", ids_with_an_invalid_one | long_lists(MAX_HISTORY)),
    (RecommendationRequest, "candidate_items", ids_with_an_invalid_one | long_lists(MAX_CANDIDATES)),
    (RecommendationRequest, "exclude_items", ids_with_an_invalid_one | long_lists(MAX_EXCLUDED)),
    (Event, "user_id", invalid_id),
    (Event, "item_id", invalid_id),
    (Event, "timestamp", st.floats(max_value=0, exclude_max=True) | st.floats(LATEST_TIMESTAMP, exclude_min=True)),
    (Event, "event", st.from_regex(r"[^a-z].*|.{33,40}", fullmatch=True)),
    (Event, "event_id", st.from_regex(r"[A-Za-z0-9]*[^A-Za-z0-9_.:-]+|\w{65,70}", fullmatch=True)),
    (RankRequest, "recent_items", ids_with_an_invalid_one | long_lists(MAX_HISTORY)),
    (RankRequest, "candidate_items", ids_with_an_invalid_one | long_lists(MAX_CANDIDATES)),
    (RankRequest, "release", invalid_release),
    (EncodeRequest, "recent_items", ids_with_an_invalid_one | long_lists(MAX_HISTORY)),
    (EncodeRequest, "release", invalid_release),
]


@pytest.mark.parametrize(("model", "field", "values"), OUT_OF_BOUNDS, ids=lambda part: getattr(part, "__name__", None))
@given(data=st.data())
def test_a_value_out_of_bounds_is_rejected_with_the_name_of_its_field(
    model: type[BaseModel], field: Any, values: Any, data: Any
) -> None:
    body = data.draw(MODELS[model]).model_dump() | {field: data.draw(values)}
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize("model", MODELS, ids=by_name)
@given(data=st.data())
def test_contracts_are_immutable(model: type[BaseModel], data: Any) -> None:
    shape = data.draw(MODELS[model])
    with pytest.raises(ValidationError, match="frozen"):
        setattr(shape, next(iter(model.model_fields)), None)


RECOMMEND = {"user_id": "u"}
EVENT = {"user_id": "u", "item_id": "i", "event": "view"}
LONGEST = "x" * MAX_ID_LENGTH
ACCEPTED = [
    (RecommendationRequest, RECOMMEND),
    (RecommendationRequest, {"user_id": LONGEST, "top_k": MAX_TOP_K, "candidate_items": ["i"] * MAX_CANDIDATES}),
    (RecommendationRequest, {**RECOMMEND, "session_items": ["i"] * MAX_HISTORY, "exclude_items": [LONGEST]}),
    (Event, EVENT),
    (Event, {**EVENT, "event_id": "x" * 64, "event": "a" + "_" * 31, "timestamp": 0}),
    (Event, {**EVENT, "timestamp": LATEST_TIMESTAMP, "recommendation_id": None}),
    (RankRequest, {"recent_items": [], "candidate_items": ["i"], "release": 2**31 - 1}),
    (EncodeRequest, {"recent_items": ["i"] * MAX_HISTORY}),
]
REJECTED = [
    (RecommendationRequest, {}),
    (RecommendationRequest, {"user_id": ""}),
    (RecommendationRequest, {"user_id": LONGEST + "x"}),
    (RecommendationRequest, {"user_id": 5}),
    (RecommendationRequest, {"user_id": None}),
    (RecommendationRequest, {**RECOMMEND, "top_k": 0}),
    (RecommendationRequest, {**RECOMMEND, "top_k": MAX_TOP_K + 1}),
    (RecommendationRequest, {**RECOMMEND, "top_k": 1.5}),
    (RecommendationRequest, {**RECOMMEND, "candidate_items": []}),
    (RecommendationRequest, {**RECOMMEND, "candidate_items": ["i"] * (MAX_CANDIDATES + 1)}),
    (RecommendationRequest, {**RECOMMEND, "candidate_items": ["i", ""]}),
    (RecommendationRequest, {**RECOMMEND, "session_items": ["i"] * (MAX_HISTORY + 1)}),
    (RecommendationRequest, {**RECOMMEND, "exclude_items": [LONGEST + "x"]}),
    (Event, {**EVENT, "event": "Not A Word"}),
    (Event, {**EVENT, "event": "a" + "_" * 32}),
    (Event, {**EVENT, "event_id": ""}),
    (Event, {**EVENT, "event_id": "x" * 65}),
    (Event, {**EVENT, "timestamp": -1}),
    (Event, {**EVENT, "timestamp": 1_700_000_000_000}),
    (Event, {**EVENT, "timestamp": math.inf}),
    (Event, {**EVENT, "timestamp": math.nan}),
    (Event, {**EVENT, "recommendation_id": "x" * 65}),
    (RankRequest, {"recent_items": [], "candidate_items": []}),
    (RankRequest, {"recent_items": ["i"] * (MAX_HISTORY + 1), "candidate_items": ["i"]}),
    (EncodeRequest, {"recent_items": []}),
    (EncodeRequest, {"recent_items": ["i"] * (MAX_HISTORY + 1)}),
]


@pytest.mark.parametrize(("model", "body"), ACCEPTED)
def test_requests_within_the_limits_are_accepted(model: type[BaseModel], body: Any) -> None:
    model.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(("model", "body"), REJECTED)
def test_requests_beyond_the_limits_are_rejected(model: type[BaseModel], body: Any) -> None:
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps(body))


def test_an_event_without_id_and_timestamp_gets_a_unique_id_and_the_current_time() -> None:
    before = time.time()
    first, second = Event(**EVENT), Event(**EVENT)
    assert first.event_id != second.event_id
    assert before <= first.timestamp <= time.time()


@pytest.mark.parametrize("count", [0, MAX_EVENTS + 1])
def test_a_batch_of_events_has_a_minimum_and_maximum_size(count: int) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Events).validate_python([Event(**EVENT)] * count)
