"""Which events belong to which impressions, on logs written by hand, and the tallies of days, computed bit by bit."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from events.attribution import day_tallies
from events.attribution.attribute import AttributionRules, attributed
from events.attribution.day_tallies import DayTallies
from events.attribution.tally import Measure, tally
from events.parquet_files import write_parquet
from recsys.contracts.event_log import Impression, LoggedEvent, LogTable
from tests.event_logs import NOON, LogByHand, event, impression

RULES = AttributionRules(window_seconds=1800)
TODAY = datetime.fromtimestamp(NOON, UTC).date()
MIDNIGHT = NOON - 43_200


@pytest.fixture
def log(tmp_path: Path) -> LogByHand:
    return LogByHand(tmp_path)


def frames(log: LogByHand) -> list[pl.LazyFrame]:
    end = datetime(2100, 1, 1, tzinfo=UTC)
    return [log.files.read_before(table, end) for table in (LogTable.IMPRESSIONS, LogTable.EVENTS)]


def conversions(log: LogByHand) -> set[tuple[str, str, str, int]]:
    rows = attributed(*frames(log), RULES)
    found = set(rows.select("recommendation_id", "event", "item_id", "position").iter_rows())
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize(
    ("seconds", "belongs"), [(-0.001, False), (0, True), (1, True), (1800, True), (1800.001, False)]
)
def test_an_event_belongs_to_an_impression_within_the_window(log: LogByHand, seconds: float, belongs: bool) -> None:
    log.show(impression("r1", NOON))
    log.record(event("r1", "b", NOON + seconds))
    assert conversions(log) == ({("r1", "click", "b", 2)} if belongs else set())


def test_only_items_of_the_page_and_known_ids_belong(log: LogByHand) -> None:
    log.show(impression("r1", items="abc"), impression("r2", items="xyz"))
    log.record(event("r1", "x"), event("r2", "x"), event("r3", "a"), event(None, "a"))
    assert conversions(log) == {("r2", "click", "x", 1)}


def test_each_recommendation_item_and_kind_counts_once(log: LogByHand) -> None:
    log.show(impression("r1"))
    log.record(event("r1", "c"), event("r1", "c", NOON + 90), event("r1", "c", kind="purchase"))
    log.record(event("r1", "c"), event("r1", "a"))
    assert conversions(log) == {("r1", "click", "c", 3), ("r1", "purchase", "c", 3), ("r1", "click", "a", 1)}


def test_the_user_of_an_event_may_be_another(log: LogByHand) -> None:
    """A visitor who logs in has two ids, and recommendation ids are secret."""
    log.show(impression("r1", user="visitor"))
    log.record(event("r1", "a", user="customer"))
    assert conversions(log) == {("r1", "click", "a", 1)}


def counted(rows: pl.DataFrame, measure: Measure, *by: str) -> dict[tuple[object, ...], float]:
    groups = rows.filter(pl.col("measure") == measure).group_by(by).agg(pl.col("amount").sum())
    return {tuple(row[:-1]): row[-1] for row in groups.select(*by, "amount").iter_rows()}


def test_a_tally_counts_impressions_and_what_followed(log: LogByHand) -> None:
    log.show(
        impression("r1", items="abc", user="u"),
        impression("r2", NOON + 600, items="ab", user="u"),
        impression("r3", items="cba", user="v", release=2, variant="challenger"),
        impression("r4", items="", user="v", release=None),
        impression("r5", placement="evaluation"),
    )
    log.record(event("r1", "a"), event("r1", "b"), event("r1", "a", kind="purchase"))
    log.record(event("r2", "b", NOON + 700, kind="dislike"), event("r3", "b"), event("r5", "a"), event("r9", "a"))
    shown, recorded = frames(log)
    rows = tally(shown, recorded, recorded.clear(), RULES)
    slot = int(NOON)
    assert counted(rows, Measure.IMPRESSIONS, "release", "slot", "user_id") == {
        (1, slot, "u"): 1,
        (1, slot + 600, "u"): 1,
        (2, slot, "v"): 1,
        (None, slot, "v"): 1,
    }
    assert counted(rows, Measure.CLICKED, "release", "slot", "user_id") == {(1, slot, "u"): 1, (2, slot, "v"): 1}
    assert counted(rows, Measure.CONVERTED, "release", "event") == {
        (1, "click"): 1,
        (1, "purchase"): 1,
        (1, "dislike"): 1,
        (2, "click"): 1,
    }
    assert counted(rows, Measure.SHOWN_AT, "release", "position") == {
        (1, 1): 2,
        (1, 2): 2,
        (1, 3): 1,
        (2, 1): 1,
        (2, 2): 1,
        (2, 3): 1,
    }
    assert counted(rows, Measure.CLICKED_AT, "release", "position") == {(1, 1): 1, (1, 2): 1, (2, 2): 1}
    assert counted(rows, Measure.SHOWN_ITEM, "release", "item_id") == {
        (1, "a"): 2,
        (1, "b"): 2,
        (1, "c"): 1,
        (2, "a"): 1,
        (2, "b"): 1,
        (2, "c"): 1,
    }
    totals = {row["measure"]: row["amount"] for row in rows.filter(pl.col("variant").is_null()).to_dicts()}
    assert totals == {
        Measure.EVENTS: 7,
        Measure.ATTRIBUTED: 5,
        Measure.LAST_IMPRESSION: NOON + 600,
        Measure.LAST_EVENT: NOON + 700,
    }
    assert set(rows["variant"].drop_nulls()) == {"champion", "challenger"}


def whole(log: LogByHand, days: list[date]) -> pl.DataFrame:
    """The tallies of these days, computed at once and kept nowhere."""
    shown, recorded = (frame.collect() for frame in frames(log))
    day_of = pl.from_epoch(pl.col("server_time").floor().cast(pl.Int64)).dt.date()
    parts = [
        tally(
            shown.lazy().filter(day_of == day),
            recorded.lazy().filter(day_of == day),
            recorded.lazy().filter(day_of == day + timedelta(days=1)),
            RULES,
        )
        for day in days
        if len(shown.filter(day_of == day)) + len(recorded.filter(day_of == day))
    ]
    return pl.concat(parts) if parts else tally(*(frame.clear() for frame in (*frames(log), frames(log)[1])), RULES)


IMPRESSIONS = st.builds(
    impression,
    st.sampled_from([f"r{number}" for number in range(8)]),
    st.integers(-90_000, 90_000).map(lambda seconds: NOON + seconds),
    user=st.sampled_from("uvw"),
    items=st.lists(st.sampled_from("abcd"), unique=True).map("".join),
    release=st.sampled_from([None, 1, 2]),
)
EVENTS = st.builds(
    event,
    st.sampled_from([None, *(f"r{number}" for number in range(9))]),
    st.sampled_from("abcde"),
    st.integers(-90_000, 95_000).map(lambda seconds: NOON + seconds),
    kind=st.sampled_from(["click", "purchase", "dislike"]),
)


@settings(max_examples=10)
@given(
    st.lists(IMPRESSIONS, min_size=1, unique_by=lambda each: each.recommendation_id),
    st.lists(EVENTS, unique_by=lambda each: each.event_id),
    st.data(),
)
def test_files_that_come_one_by_one_in_any_order_give_the_tallies_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, shown: list[Impression], recorded: list[LoggedEvent], data: st.DataObject
) -> None:
    log = LogByHand(tmp_path_factory.mktemp("log"))
    days = [TODAY + timedelta(days=number) for number in (-2, -1, 0, 1, 2)]
    for entry in data.draw(st.permutations([*shown, *recorded])):
        log.show(entry) if isinstance(entry, Impression) else log.record(entry)
        if data.draw(st.booleans()):
            DayTallies(str(log.root), RULES).read(days)
    assert_frame_equal(DayTallies(str(log.root), RULES).read(days), whole(log, days))


def test_a_day_is_computed_once_until_its_files_change(log: LogByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Counter[str]()

    def counting(shown: pl.LazyFrame, *others: object) -> pl.DataFrame:
        computed.update(shown.select("recommendation_id").collect()["recommendation_id"])
        return tally(shown, *others)

    monkeypatch.setattr(day_tallies, "tally", counting)
    days = [TODAY - timedelta(days=1), TODAY]
    log.show(impression("yesterday", NOON - 86_400))
    log.show(impression("today"))
    for _ in range(2):
        DayTallies(str(log.root), RULES).read(days)
    assert computed == {"yesterday": 1, "today": 1}
    log.record(event("today", "a"))
    DayTallies(str(log.root), RULES).read(days)
    assert computed == {"yesterday": 1, "today": 2}, "noon is too late for what was shown yesterday"
    log.record(event("yesterday", "a", MIDNIGHT + 1))
    DayTallies(str(log.root), RULES).read(days)
    assert computed == {"yesterday": 2, "today": 3}
    DayTallies(str(log.root), AttributionRules(window_seconds=60)).read(days)
    assert computed == {"yesterday": 3, "today": 4}, "other rules give other tallies"


def test_two_processes_may_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that ends first takes the part of the other for abandoned."""
    path, rows = tmp_path / "folder" / "same.parquet", pl.DataFrame({"a": [1]})
    written = []

    def write_in_between(frame: pl.DataFrame, file: object, **options: object) -> None:
        if not written:
            written.append(1)
            write_parquet(str(path), frame)
        plain(frame, file, **options)

    plain = pl.DataFrame.write_parquet
    monkeypatch.setattr(pl.DataFrame, "write_parquet", write_in_between)
    write_parquet(str(path), rows)
    assert [each.name for each in path.parent.iterdir()] == ["same.parquet"]
    assert_frame_equal(pl.read_parquet(path), rows)


def test_a_damaged_tally_is_computed_again(log: LogByHand) -> None:
    log.show(impression("r1"))
    expected = DayTallies(str(log.root), RULES).read([TODAY])
    [path] = log.root.glob("tallies/*.parquet")
    path.write_bytes(b"no parquet")
    assert_frame_equal(DayTallies(str(log.root), RULES).read([TODAY]), expected)


def test_files_of_version_1_are_read(log: LogByHand) -> None:
    log.show(impression("r1"))
    log.record(event("r1", "a"))
    expected = DayTallies(str(log.root), RULES).read([TODAY])
    for path in log.root.glob("*/day=*/*.parquet"):
        pl.read_parquet(path).drop("exploration", "positive", strict=False).write_parquet(path)
    for path in log.root.glob("tallies/*.parquet"):
        path.unlink()
    assert_frame_equal(DayTallies(str(log.root), RULES).read([TODAY]), expected)
