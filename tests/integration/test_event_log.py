"""What was shown and what was done about it, from the public API to the collector's files and the report."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from events.collector import Collector
from events.log_files import LogFiles
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_log_reader import RedisLogReader
from recsys.contracts.event_log import LogTable
from tests import toy
from tests.conftest import Stack, beside
from tests.engines import eventually, is_whole, running

USER = next(iter(toy.USERS))


def rows(files: LogFiles, table: LogTable, recommendation_id: str) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    found = files.read(table, now - timedelta(days=1), now + timedelta(days=1))
    return found.filter(pl.col("recommendation_id") == recommendation_id).collect().to_dicts()


def reported_clicks(api: httpx.Client, placement: str) -> int:
    report = api.get("/v1/reports/releases").raise_for_status().json()
    return sum(each["clicked"] for each in report["tallies"] if each["placement"] == placement)


def test_a_recommendation_and_its_click_meet_in_the_files(stack: Stack, api: httpx.Client) -> None:
    request = {"user_id": USER, "top_k": 5, "placement": "home"}
    shown = api.post("/v1/recommendations", json=request).raise_for_status().json()
    recommendation_id, clicked = shown["recommendation_id"], shown["recommendations"][2]["item_id"]
    click = {"user_id": "somebody else", "item_id": clicked, "event": "rating", "value": 4.5, "timestamp": 7}
    click |= {"placement": "home", "recommendation_id": recommendation_id, "event_id": "click-1"}
    api.post("/v1/events", json=[click]).raise_for_status()

    files = LogFiles(str(stack.settings.event_log))
    with running(stack.settings, "collector", REPORT_SECONDS="0.5"):
        eventually(lambda: is_whole(stack.settings.collector_url))
        eventually(lambda: bool(rows(files, LogTable.IMPRESSIONS, recommendation_id)), "there is no impression")
        eventually(lambda: bool(rows(files, LogTable.EVENTS, recommendation_id)), "there is no event")
        eventually(lambda: reported_clicks(api, "home"), "the report has no click")
        metrics = httpx.get(f"{stack.settings.collector_url}/metrics").text
    assert 'tandem_log_files_total{table="impressions"}' in metrics
    assert 'tandem_release_click_through{bound="mean",release="1"}' in metrics

    [impression] = rows(files, LogTable.IMPRESSIONS, recommendation_id)
    [event] = rows(files, LogTable.EVENTS, recommendation_id)
    copied = ("recommendation_id", "user_id", "release", "variant", "tier", "tier_reason")
    assert {name: impression[name] for name in copied} == {name: shown[name] for name in copied}
    assert impression["item_ids"] == [each["item_id"] for each in shown["recommendations"]]
    assert impression["placement"] == "home"
    assert impression["took_ms"] == pytest.approx(shown["timings_ms"]["total"])
    assert {name: event[name] for name in click} == click
    assert event["server_time"] > impression["server_time"]


def items_of(page: dict[str, Any]) -> list[str]:
    return [each["item_id"] for each in page["recommendations"]]


async def collect(redis_url: str, files: LogFiles) -> None:
    redis = open_redis(redis_url)
    await Collector(RedisLogReader(redis), files, seconds=1).collect()
    await redis.aclose()


def test_random_items_are_shown_where_exploration_is_on_and_logged_with_their_chances(
    stack: Stack, tmp_path: Path
) -> None:
    files, now, pages = LogFiles(str(tmp_path / "log")), datetime.now(UTC), 20

    def impressions() -> dict[str, dict[str, Any]]:
        asyncio.run(collect(own.environment()["REDIS_URL"], files))
        found = files.read(LogTable.IMPRESSIONS, now - timedelta(days=1), now + timedelta(days=1)).collect()
        return {each["recommendation_id"]: each for each in found.to_dicts()}

    with (
        beside(stack, tmp_path / "run", EXPLORE_SHARE="0.5") as own,
        httpx.Client(base_url=own.orchestrator_url, timeout=30) as api,
    ):
        request = {"user_id": "u", "session_items": toy.ITEM_IDS[:3], "top_k": 5, "debug": True}
        shown = [api.post("/v1/recommendations", json=request).raise_for_status().json() for _ in range(pages)]
        eventually(lambda: len(impressions()) == pages, "impressions are missing")
        logged = impressions()
    by_the_ranker = next(items_of(each) for each in shown if not each["debug"]["explored_positions"])
    for page in shown:
        assert "exploration" not in page
        made, positions = logged[page["recommendation_id"]]["exploration"], page["debug"]["explored_positions"]
        assert positions == [place + 1 for place, drawn in enumerate(made["explored"]) if drawn]
        places = enumerate(zip(items_of(page), by_the_ranker, strict=True), start=1)
        assert positions == [position for position, (item, usual) in places if item != usual]
        chances = [0.2 / made["drawn_from"] if drawn else 0.8 for drawn in made["explored"]]
        assert made["propensities"] == pytest.approx(chances)
    assert any(page["debug"]["explored_positions"] for page in shown)


def test_a_placement_is_a_short_name(api: httpx.Client) -> None:
    for placement in ("", "Home", "a b", "x" * 33, None, 5):
        refused = api.post("/v1/recommendations", json={"user_id": USER, "placement": placement})
        assert (refused.status_code, "placement" in refused.json()["detail"]) == (422, True)
        event = {"user_id": USER, "item_id": "a", "event": "view", "placement": placement}
        assert api.post("/v1/events", json=[event]).status_code == 422
