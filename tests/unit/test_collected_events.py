"""`make data` with the events that the services have collected."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic_core import to_json

from events.log_files import LogFiles
from recsys.contracts.event_log import LogTable
from training.datasets.manifest import INTERACTIONS_FILE, MANIFEST_FILE, Manifest
from training.jobs.prepare import prepare
from training.settings import JobSettings

DAY = 86_400
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def event(user_id: str, item_id: str, day: float, **more: Any) -> str:
    at = START + day * DAY
    entry = {"event_id": f"{user_id}-{item_id}-{day}", "user_id": user_id, "item_id": item_id, "event": "click"}
    return to_json({**entry, "timestamp": at, "server_time": at + 1, "schema_version": 1, **more}).decode()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSettings:
    source = tmp_path / "source"
    source.mkdir()
    (source / "interactions.csv").write_text(f"user_id,item_id,timestamp\nann,a,{START}\nbob,b,{START + 1}\n")
    (source / "items.csv").write_text("item_id,title\na,A\nb,B\nnew,New\n")
    monkeypatch.setenv("EVENT_LOG", str(tmp_path / "log"))
    settings = JobSettings(dataset="csv", data_source=str(source), data_dir=tmp_path / "data")
    log = LogFiles(str(tmp_path / "log"))
    entries = [event("cy", "new", 1), event("ann", "b", 2), event("ann", "gone", 2), event("bob", "a", 3)]
    log.write(LogTable.EVENTS, 0, "1-0", "4-0", entries)
    log.write(
        LogTable.EVENTS, 1, "5-0", "5-0", [event("ann", "b", 2), event("ann", "a", 4, timestamp=START + 99 * DAY)]
    )
    return settings


def rows(settings: JobSettings) -> list[tuple[Any, ...]]:
    found = pl.read_parquet(settings.processed_dir / INTERACTIONS_FILE)
    return [(user, item, (at - START) / DAY) for user, item, at in found["user_id", "item_id", "timestamp"].iter_rows()]


def test_events_join_the_log_until_the_cut_off_once_and_if_the_item_is_described(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(settings)
    assert len(rows(settings)) == 2
    monkeypatch.setenv("EVENTS_UNTIL", "2026-01-03T12:00")
    assert "4 interactions (2 of them collected), 3 users" in prepare(settings)
    assert rows(settings) == [("ann", "a", 0), ("ann", "b", 2), ("bob", "b", 1 / DAY), ("cy", "new", 1)]
    monkeypatch.setenv("EVENTS_UNTIL", "2026-01-10")
    prepare(settings)
    assert rows(settings)[2] == ("ann", "a", 4 + 1 / DAY)  # by the services' clock, because the client's is ahead


def test_the_cut_off_stays_until_another_is_given(settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS_UNTIL", "2026-01-03T12:00")
    prepare(settings)
    monkeypatch.delenv("EVENTS_UNTIL")
    assert "up to date" in prepare(settings)
    manifest = Manifest.read(settings.processed_dir)
    assert (manifest.collected_events, manifest.source["events_until"]) == (2, "2026-01-03T12:00:00+00:00")
    (settings.processed_dir / MANIFEST_FILE).unlink()
    prepare(settings)
    assert len(rows(settings)) == 2


def test_without_collected_files_there_is_the_log_alone(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVENT_LOG", str(tmp_path / "nothing"))
    monkeypatch.setenv("EVENTS_UNTIL", "2026-01-10")
    assert "2 interactions, 2 users" in prepare(settings)
