"""Timestamps of every kind are seconds, and what is not a timestamp is null."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets.timestamps import seconds, whole_number


def read(values: Sequence[object], dtype: pl.DataType | None = None) -> list[int | None]:
    frame = pl.DataFrame({"timestamp": values}, schema={"timestamp": dtype or pl.String()}, strict=True)
    return frame.select(seconds("timestamp", frame.schema["timestamp"], values[0])).to_series().to_list()


@given(st.integers(min_value=1, max_value=10**11 - 1))
def test_whole_seconds_and_positions_stay_as_they_are(moment: int) -> None:
    assert read([str(moment)]) == [moment]
    assert read([moment], pl.Int64()) == [moment]


@given(st.datetimes(min_value=datetime(1974, 1, 1), max_value=datetime(2200, 1, 1)))
def test_every_unit_and_every_spelling_is_the_same_second(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    second = int(moment.timestamp())
    numbers = [second, second * 10**3 + 999, second * 10**6 + 999_999, second * 10**9]
    assert read([*map(str, numbers), f"{second}.75"]) == [second] * 5
    assert read(numbers, pl.Int64()) == [second] * 4
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    bare = moment.replace(tzinfo=None).isoformat()
    spellings = [
        bare,
        bare.replace("T", " "),
        f"{bare}Z",
        f"{bare}.123456Z",
        moment.isoformat(),
        elsewhere.isoformat(),
        elsewhere.strftime("%Y-%m-%d %H:%M:%S%z"),
    ]
    assert read(spellings) == [second] * len(spellings)


def test_dates_minutes_and_short_zones() -> None:
    midnight = int(datetime(2024, 2, 29, tzinfo=UTC).timestamp())
    assert read(["2024-02-29", "2024-02-29T00:00", "2024-02-29 00:00Z", "2024-02-29T02:00:00+02"]) == [midnight] * 4
    assert read([date(2024, 2, 29)], pl.Date()) == [midnight]
    assert read([datetime(2024, 2, 29)], pl.Datetime("ms")) == [midnight]


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e400", "2024-01-01", "12:30"])
def test_what_is_not_a_number_is_null_among_numbers(text: str) -> None:
    assert read(["5", text]) == [5, None]


@pytest.mark.parametrize("text", ["", "2023-02-29", "2023-13-01", "2023-01-01T25:00:00", "yesterday", "01/02/2023"])
def test_what_is_not_iso_is_null_among_iso(text: str) -> None:
    assert read(["2024-01-01", text])[1] is None


def test_the_cheap_reading_agrees_for_whole_numbers() -> None:
    frame = pl.DataFrame({"timestamp": ["7", "964982703", "1609459200000", "x"]})
    assert frame.select(whole_number("timestamp")).to_series().to_list() == [7, 964982703, 1609459200, None]
