"""The job that writes a range of the event log to files."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from events.log_files import LogFiles
from recsys.contracts.event_log import Impression, LoggedEvent, LogTable
from recsys.contracts.events import Event
from recsys.contracts.recommendation import Exploration, Tier
from recsys.errors import JobError
from training.jobs.export import export
from training.settings import JobSettings

MORNING = datetime(2025, 11, 22, 8, tzinfo=UTC).timestamp()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSettings:
    """With three events, two hours apart, and two impressions at the time of the second, one of them explored."""
    for name in ("FROM", "TO", "FORMAT", "EVENT_LOG"):
        monkeypatch.delenv(name, raising=False)
    settings = JobSettings.model_validate({"dataset": "toy", "data_dir": tmp_path})
    files = LogFiles(settings.event_log)
    for number in (2, 0, 1):
        event = Event(event_id=f"e{number}", user_id="u", item_id="a", event="view", timestamp=1)
        logged = LoggedEvent.of(event, MORNING + 7200 * number).model_dump_json()
        files.write(LogTable.EVENTS, number, "1-0", "1-0", [logged])
    shown = [
        Impression(
            recommendation_id=uuid.uuid4().hex,
            user_id="u",
            item_ids=["b", "a"],
            release_version=None,
            variant="champion",
            tier=Tier.STATIC,
            tier_reason="complete",
            exploration=exploration,
            server_time=MORNING + 7200,
        )
        for exploration in (None, Exploration(explored=[False, True], propensities=[0.9, 0.02], drawn_from=5))
    ]
    files.write(LogTable.IMPRESSIONS, 3, "1-0", "1-0", [each.model_dump_json() for each in shown])
    return settings


def test_a_range_is_exported_in_the_order_of_time(settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM", "2025-11-22")
    monkeypatch.setenv("TO", "2025-11-22T12:00")
    assert export(settings).startswith("2 events and 2 impressions from 2025-11-22T00:00:00+00:00 to ")
    events = pl.read_parquet(settings.exports_dir / "events-20251122T000000-20251122T120000.parquet")
    assert events["event_id"].to_list() == ["e0", "e1"]


def test_csv_has_a_row_per_shown_item(settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FROM": "2025-11-22T10:00+01:00", "TO": "2025-11-23", "FORMAT": "csv"}.items():
        monkeypatch.setenv(name, value)
    export(settings)
    written = settings.exports_dir
    impressions = pl.read_csv(written / "impressions-20251122T090000-20251123T000000.csv")
    columns = ("item_id", "position", "explored", "propensity", "drawn_from")
    assert impressions.select(columns).rows() == [
        ("b", 1, None, None, None),
        ("a", 2, None, None, None),
        ("b", 1, False, 0.9, 5),
        ("a", 2, True, 0.02, 5),
    ]
    assert pl.read_csv(written / "events-20251122T090000-20251123T000000.csv")["event_id"].to_list() == ["e1", "e2"]


def test_the_last_day_is_the_default_and_may_be_empty(settings: JobSettings) -> None:
    assert export(settings).startswith("0 events and 0 impressions")


def test_a_range_that_ends_before_it_begins_is_refused(settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM", "2025-11-22")
    monkeypatch.setenv("TO", "2025-11-21")
    with pytest.raises(JobError, match=r"FROM is 2025-11-22.* not before TO, 2025-11-21"):
        export(settings)
