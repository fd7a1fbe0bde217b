"""Pages that show random items: what is drawn, with which chances, and on which pages."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.impressions import ImpressionBuffer
from recsys.adapters.in_memory_event_log import InMemoryEventLog
from recsys.contracts.base import EVALUATION_PLACEMENT
from recsys.contracts.recommendation import Exploration, RecommendationRequest, RecommendationResponse, Tier
from recsys.deadline import Deadline
from recsys.errors import UpstreamUnavailable
from recsys.exploration import MAX_PLACES, draw, exploration
from recsys.pipeline import RecommendationPipeline
from tests.event_logs import impression
from tests.unit.pipeline_case import DEADLINE_SECONDS, READER, RELEASE, Broken, item_ids, open_pipeline, recommend

RANKED = ["i1", "i2", "i9", "i8", "i7", "i6", "i5", "i4", "i3"]
"""By the model, for the reader, who has seen i0."""
TOP_K = 4
MOST = 0.5


@pytest.mark.parametrize(("num_places", "num_rest"), [(4, 5), (1, 3), (3, 1), (2, 2)])
def test_items_are_shown_as_often_as_their_propensities_say(num_places: int, num_rest: int) -> None:
    """Over the pages with one shortlist: how often each item was at each place, against what each such page logged."""
    share, pages = 0.4, 4_000
    shown, logged = Counter[tuple[int, str]](), dict[tuple[int, str], float]()
    for number in range(pages):
        drawn = draw(f"{number}.champion", share, num_places, num_rest)
        assert len(drawn) in (0, min(MAX_PLACES, num_places, num_rest))
        assert len(set(drawn.values())) == len(drawn)
        chances = exploration(list(drawn), share, num_places, num_rest)
        for place, propensity in enumerate(chances.propensities):
            key = place, f"drawn {drawn[place]}" if place in drawn else "ranked"
            shown[key] += 1
            assert logged.setdefault(key, propensity) == propensity
    assert len(shown) == num_places * (1 + num_rest)
    for place in range(num_places):
        assert sum(chance for (at, _), chance in logged.items() if at == place) == pytest.approx(1)
    for key, propensity in logged.items():
        deviation = (propensity * (1 - propensity) / pages) ** 0.5
        assert shown[key] / pages == pytest.approx(propensity, abs=4 * deviation)


def test_a_draw_can_be_repeated() -> None:
    drawn = {number: draw(f"{number}", MOST, 10, 50) for number in range(20)}
    assert {number: draw(f"{number}", MOST, 10, 50) for number in range(20)} == drawn
    assert {} in drawn.values()
    assert len({tuple(each.items()) for each in drawn.values()}) > 5


async def pages(pipeline: RecommendationPipeline, number: int = 40, **fields: Any) -> list[RecommendationResponse]:
    return [await recommend(pipeline, top_k=TOP_K, debug=True, **fields) for _ in range(number)]


async def test_an_explored_page_shows_items_of_the_shortlist_once_and_says_where() -> None:
    responses = await pages(await open_pipeline(explore_share=MOST), exclude_items=["i3"])
    explored = 0
    for response in responses:
        drawn, made, debug = item_ids(response), response.exploration, response.debug
        assert made is not None
        assert debug is not None
        assert debug.explored_positions == made.positions
        assert made.drawn_from == len(RANKED) - 1 - TOP_K, "i3 is excluded"
        assert [each.rank for each in response.recommendations] == [1, 2, 3, 4]
        assert len(set(drawn)) == TOP_K
        assert set(drawn) <= set(RANKED) - {"i3"}
        changed = [place for place in range(TOP_K) if drawn[place] != RANKED[place]]
        assert [position - 1 for position in made.positions] == changed
        assert all(drawn[place] in RANKED[TOP_K:] for place in changed)
        at_place = MOST * MAX_PLACES / TOP_K
        chances = [at_place / made.drawn_from if place in changed else 1 - at_place for place in range(TOP_K)]
        assert made.propensities == chances
        explored += bool(changed)
    assert 0 < explored < len(responses)


async def test_nothing_is_explored_by_default() -> None:
    for response in await pages(await open_pipeline()):
        assert item_ids(response) == RANKED[:TOP_K]
        assert (response.exploration, response.debug and response.debug.explored_positions) == (None, [])


@pytest.mark.parametrize(
    ("ports", "fields"),
    [
        ({"ranker": Broken(UpstreamUnavailable("no"))}, {}),
        ({"index": Broken(UpstreamUnavailable("no"))}, {}),
        ({}, {"user_id": "unknown"}),
        ({}, {"candidate_items": RANKED}),
        ({}, {"placement": EVALUATION_PLACEMENT}),
        ({}, {"exclude_items": RANKED[TOP_K:]}),
    ],
    ids=["retrieved", "popular", "unknown user", "the caller's items", "a measurement", "nothing is left to draw"],
)
async def test_these_pages_are_never_explored(ports: dict[str, Any], fields: dict[str, Any]) -> None:
    responses = await pages(await open_pipeline(explore_share=MOST, **ports), **fields)
    assert {response.exploration for response in responses} == {None}
    assert len({tuple(item_ids(response)) for response in responses}) == 1


async def test_a_request_that_only_compares_is_not_explored() -> None:
    pipeline = await open_pipeline(explore_share=MOST)
    with Deadline(DEADLINE_SECONDS).activate():
        request = RecommendationRequest(user_id=READER, top_k=TOP_K)
        shadows = [await pipeline.recommend(request, "challenger", RELEASE, shadow=True) for _ in range(20)]
    assert {tuple(item_ids(each)) for each in shadows} == {tuple(RANKED[:TOP_K])}


def test_an_impression_has_a_chance_for_each_of_its_items() -> None:
    made = Exploration(explored=[False, True], propensities=[0.9, 0.02], drawn_from=5)
    assert impression("r", items="ab", exploration=made).exploration == made
    with pytest.raises(ValidationError, match="exploration has 2 and 2 values for 3 items"):
        impression("r", items="abc", exploration=made)


async def test_the_chances_are_logged_and_not_sent() -> None:
    log = InMemoryEventLog()
    buffer = ImpressionBuffer(log)
    explored, plain = [await recommend(await open_pipeline(explore_share=share), top_k=TOP_K) for share in (MOST, 0)]
    for response in (explored, plain):
        buffer.add(response, "home")
        assert "exploration" not in response.model_dump_json()
        assert response.tier == Tier.PERSONALIZED
    await buffer.send()
    assert [each.exploration for each in log.impressions] == [explored.exploration, None]
    assert isinstance(explored.exploration, Exploration)
    assert "exploration" not in log.impressions[1].model_dump_json(), "it takes no room where it is off"
