"""What a web page does: get recommendations, send clicks, get recommendations again. All services are running."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from recsys.model.release import Release
from tests import toy
from tests.conftest import Stack
from tests.engines import eventually

USER, HISTORY = next(iter(toy.USERS.items()))


def recommend(api: httpx.Client, user_id: str = USER, **fields: Any) -> dict[str, Any]:
    return api.post("/v1/recommendations", json={"user_id": user_id, **fields}).raise_for_status().json()


def shown(answer: dict[str, Any]) -> list[str]:
    return [each["item_id"] for each in answer["recommendations"]]


def click(item_id: str, user_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "item_id": item_id, "event": "click", **fields}


def features(stack: Stack, api: httpx.Client, user_id: str) -> dict[str, Any]:
    url = f"{stack.settings.feature_service_url}/v1/users/{user_id}/features"
    return api.get(url).raise_for_status().json()


@pytest.fixture
def visitor() -> str:
    """A user without any stored features."""
    return f"visitor-{uuid.uuid4().hex}"


def test_a_seeded_user_gets_a_personalized_answer(api: httpx.Client) -> None:
    answer = recommend(api, top_k=5)
    assert (answer["tier"], answer["tier_reason"], answer["release"]) == ("personalized", "complete", 1)
    assert len(answer["recommendations"]) == 5
    assert not set(shown(answer)) & set(HISTORY)
    assert answer["user_id"] == USER
    assert {"features", "encode", "retrieve", "rank", "total"} <= set(answer["timings_ms"])


def test_the_answer_is_what_the_model_ranks_best(api: httpx.Client, stack: Stack) -> None:
    release = Release.load(1, stack.model_dir)
    others = [item_id for item_id in toy.ITEM_IDS if item_id not in HISTORY]
    scores = dict(zip(others, release.score(release.encode(HISTORY), others), strict=True))
    answer = recommend(api, top_k=10)
    assert shown(answer) == sorted(others, key=lambda item_id: -scores[item_id])[:10]
    assert [each["score"] for each in answer["recommendations"]] == pytest.approx(
        [scores[item_id] for item_id in shown(answer)], abs=1e-4
    )


def test_recommendations_have_titles_and_metadata(api: httpx.Client) -> None:
    for each in recommend(api, top_k=5)["recommendations"]:
        assert each["title"] == toy.TITLES[each["item_id"]]
        assert each["metadata"] == toy.metadata_of(toy.ITEM_IDS.index(each["item_id"]))


def test_an_unknown_user_gets_what_is_popular(api: httpx.Client, visitor: str) -> None:
    answer = recommend(api, visitor, top_k=5)
    assert (answer["tier"], answer["tier_reason"]) == ("popular", "unknown_user")
    popular = api.get("/v1/popular", params={"top_k": 5}).json()
    assert shown(answer) == shown(popular)
    assert popular["recommendations"][0]["title"]


def test_the_very_next_recommendation_knows_the_click(api: httpx.Client, stack: Stack, visitor: str) -> None:
    before = recommend(api, visitor)
    chosen = shown(before)[0]
    assert api.post("/v1/events", json=[click(chosen, visitor)]).json() == {"recorded": 1, "duplicates": 0}
    after = recommend(api, visitor)
    assert (before["tier"], after["tier"]) == ("popular", "personalized")
    assert chosen not in shown(after)
    assert features(stack, api, visitor)["recent_items"] == [chosen]
    assert api.post("/v1/events", json=[click(shown(after)[0], visitor)]).status_code == 200
    assert shown(after)[0] not in shown(recommend(api, visitor))
    assert features(stack, api, visitor)["recent_items"] == [chosen, shown(after)[0]]


def test_an_event_that_is_posted_again_counts_once(api: httpx.Client, stack: Stack, visitor: str) -> None:
    body = [click("item-05", visitor, event_id="once", timestamp=5), click("item-06", visitor, event_id="two")]
    assert api.post("/v1/events", json=body).json() == {"recorded": 2, "duplicates": 0}
    assert api.post("/v1/events", json=body).json() == {"recorded": 0, "duplicates": 2}
    assert features(stack, api, visitor)["recent_items"] == ["item-05", "item-06"]


def test_a_session_is_enough_and_leaves_no_trace(api: httpx.Client, stack: Stack, visitor: str) -> None:
    answer = recommend(api, visitor, session_items=["item-01", "item-02"])
    assert answer["tier"] == "personalized"
    assert not {"item-01", "item-02"} & set(shown(answer))
    assert features(stack, api, visitor)["known"] is False


def test_the_body_of_the_ray_serve_tutorial_is_understood(api: httpx.Client) -> None:
    candidates = ["item-30", "no such item", "item-31", "item-32"]
    answer = recommend(api, candidate_items=candidates, top_k=4)
    assert set(shown(answer)) == set(candidates)
    assert shown(answer)[-1] == "no such item"
    assert answer["recommendations"][-1]["score"] is None
    scores = [each["score"] for each in answer["recommendations"][:-1]]
    assert scores == sorted(scores, reverse=True)
    assert answer["total_candidates"] == 4


def test_excluded_items_do_not_come(api: httpx.Client) -> None:
    first = shown(recommend(api))
    assert not set(first[:3]) & set(shown(recommend(api, exclude_items=first[:3])))


def test_all_of_the_catalogue_can_be_asked_for(api: httpx.Client) -> None:
    assert set(shown(recommend(api, top_k=100))) == set(toy.ITEM_IDS) - set(HISTORY)


def test_items_of_odd_ids_are_seen_shown_and_similar_to_others(api: httpx.Client, stack: Stack, visitor: str) -> None:
    path = toy.ODD_ITEM.encode().hex("%")
    assert api.get(f"/v1/items/%{path}").json()["item_id"] == toy.ODD_ITEM
    assert len(api.get(f"/v1/items/%{path}/similar", params={"top_k": 3}).json()["recommendations"]) == 3
    api.post("/v1/events", json=[click(toy.ODD_ITEM, visitor)]).raise_for_status()
    assert features(stack, api, visitor)["recent_items"] == [toy.ODD_ITEM]
    assert toy.ODD_ITEM not in shown(recommend(api, visitor, top_k=100))


def test_one_item_is_shown_with_its_metadata(api: httpx.Client) -> None:
    assert api.get("/v1/items/item-07").json() == {
        "item_id": "item-07",
        "title": toy.TITLES["item-07"],
        "metadata": toy.metadata_of(7),
    }


def test_similar_items_come_best_first_without_the_item_itself(api: httpx.Client) -> None:
    answer = api.get("/v1/items/item-07/similar", params={"top_k": 8}).raise_for_status().json()
    assert answer["release"] == 1
    assert len(set(shown(answer)) - {"item-07"}) == 8
    scores = [each["score"] for each in answer["recommendations"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("query", ["red thing 7", "THING 7 Red", "  7  the "])
def test_items_are_found_by_words_of_their_titles(api: httpx.Client, query: str) -> None:
    found = api.get("/v1/items", params={"query": query}).raise_for_status().json()["items"]
    assert [item["item_id"] for item in found] == ["item-07"]


def test_a_title_that_nothing_has_is_an_empty_answer(api: httpx.Client) -> None:
    assert api.get("/v1/items", params={"query": "nothing of the kind"}).json() == {"items": []}


def test_concurrent_requests_do_not_get_each_others_answers(api: httpx.Client, stack: Stack) -> None:
    alone = {user_id: shown(recommend(api, user_id)) for user_id in toy.USERS}
    asked = list(toy.USERS) * 8
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda user_id: recommend(api, user_id), asked))
    assert [answer["user_id"] for answer in answers] == asked
    assert [shown(answer) for answer in answers] == [alone[user_id] for user_id in asked]


def test_every_answer_carries_a_request_id_and_the_callers_own_is_kept(api: httpx.Client) -> None:
    assert api.get("/v1/popular").headers["x-request-id"]
    assert api.get("/v1/popular", headers={"x-request-id": "abc123"}).headers["x-request-id"] == "abc123"
    forged = api.get("/v1/popular", headers={"x-request-id": 'a","b":"c'}).headers["x-request-id"]
    assert forged.isalnum()


def test_a_recommendation_is_one_named_line_of_the_log(api: httpx.Client, stack: Stack) -> None:
    answer = recommend(api)

    def logged() -> Any:
        lines = stack.engines["orchestrator"].log_file.read_text().splitlines()
        found = [json.loads(line) for line in lines if answer["recommendation_id"] in line]
        return len(found) == 1 and found[0]["tier"] == "personalized" and "latency_ms" in found[0]

    eventually(logged)
