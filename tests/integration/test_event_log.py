"""What was shown and what was done about it, from the public API to the collector's files and the report."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest

from events.log_files import LogFiles
from recsys.contracts.event_log import LogTable
from tests import toy
from tests.conftest import Stack
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


def test_a_placement_is_a_short_name(api: httpx.Client) -> None:
    for placement in ("", "Home", "a b", "x" * 33, None, 5):
        refused = api.post("/v1/recommendations", json={"user_id": USER, "placement": placement})
        assert (refused.status_code, "placement" in refused.json()["detail"]) == (422, True)
        event = {"user_id": USER, "item_id": "a", "event": "view", "placement": placement}
        assert api.post("/v1/events", json=[event]).status_code == 422
