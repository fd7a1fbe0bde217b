"""With CLOCK_FILE, the services live in the time of that file, from the event to the collected file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

from events.log_files import LogFiles
from recsys.clock import ClockFile
from recsys.contracts.event_log import LogTable
from tests.engines import eventually, local_settings, running

MIDNIGHT = datetime(2001, 2, 3, tzinfo=UTC)
"""Long before the time of this machine, and so of Redis."""


def test_events_are_recorded_popular_and_collected_in_the_time_of_the_file(tmp_path: Path) -> None:
    clock = ClockFile(tmp_path / "clock", MIDNIGHT.timestamp() - 60)
    settings = local_settings(tmp_path / "run", clock_file=clock.path)
    url, files = f"{settings.feature_service_url}/v1", LogFiles(str(settings.event_log))

    def record(item_id: str) -> None:
        event = {"user_id": "ann", "item_id": item_id, "event": "view"}
        httpx.post(f"{url}/events", json={"events": [event], "known": [True]}).raise_for_status()

    def collected() -> pl.DataFrame:
        return files.read(LogTable.EVENTS, MIDNIGHT - timedelta(days=1), MIDNIGHT + timedelta(days=1)).collect()

    with running(settings, "redis", "feature_service"):
        record("before")
        clock.advance(120)
        record("after")
        days = httpx.get(f"{url}/activity").json()["days"]
        with running(settings, "collector"):
            eventually(lambda: len(collected()) == 2, "the events were not collected")
            computed = lambda: httpx.get(f"{settings.feature_service_url}/v1/reports/releases").json()["computed_at"]  # noqa: E731
            eventually(lambda: computed() is not None, "there is no report")
        assert computed() == clock.now()
    assert [day["events"] for day in days] == [1, 1]
    rows = collected().sort("server_time").select("item_id", "timestamp", "server_time").rows()
    times = (MIDNIGHT.timestamp() - 60, MIDNIGHT.timestamp() + 60)
    assert rows == [("before", times[0], times[0]), ("after", times[1], times[1])]
    names = sorted(path.parent.name for path in Path(str(settings.event_log)).glob("events/*/*.parquet"))
    assert names == ["day=2001-02-02", "day=2001-02-03"]
