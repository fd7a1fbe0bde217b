"""A team's own tables: what is accepted, what is warned of, and which line a refusal names."""

import gzip
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, run

LOG = "user_id,item_id,timestamp\nbo,007,20\nal,7,10\nbo,9,10\n"


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_ids_stay_text_and_rows_are_sorted(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path, interactions__csv=LOG, items__csv="item_id,title,categories,year,price\n007,Bond,A|B,1962,3\n"
    )
    prepared = run(tmp_path, "csv", source)
    assert prepared.interactions.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "event": pl.String,
    }
    assert prepared.interactions.rows() == [
        ("al", "7", 10, "interaction"),
        ("bo", "9", 10, "interaction"),
        ("bo", "007", 20, "interaction"),
    ]
    assert prepared.items.schema == {
        "item_id": pl.String,
        "title": pl.String,
        "categories": pl.List(pl.String),
        "year": pl.Int32,
        "price": pl.Float64,
    }
    assert prepared.items.rows() == [
        ("007", "Bond", ["A", "B"], 1962, 3.0),
        ("7", "7", [], None, None),
        ("9", "9", [], None, None),
    ]
    assert prepared.manifest.warnings == {"items_without_description": 2}
    assert "3 interactions, 2 users, 3 items, timestamps 10 to 20" in prepared.line


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 2), st.sampled_from(["v", "p"])),
        min_size=1,
        max_size=40,
    )
)
@example([("a", "x", 1, "v"), ("a", "y", 1, "v"), ("a", "x", 1, "v"), ("a", "x", 1, "p")])
def test_the_result_is_a_stable_sort_without_repetitions(tmp_path: Path, rows: list[tuple[str, str, int, str]]) -> None:
    lines = "".join(f"{','.join(map(str, row))}\n" for row in rows)
    source = folder_of(tmp_path, interactions__csv=f"user_id,item_id,timestamp,event\n{lines}")
    prepared = run(tmp_path, "csv", source)
    expected = sorted(dict.fromkeys(rows), key=lambda row: (row[0], row[2]))
    assert prepared.interactions.rows() == expected
    assert prepared.manifest.warnings.get("duplicate_rows", 0) == len(rows) - len(expected)


def test_their_names_events_and_defaults(tmp_path: Path) -> None:
    log = "sku,customer,when,action\n1,a,2024-01-01,buy\n2,a,2024-01-02T00:00:00Z,\n"
    source = folder_of(tmp_path, interactions__csv=log, items__csv="item_id,name\n1,One\n2,\n")
    columns = "user_id=customer, item_id=sku, timestamp=when, event=action, title=name"
    prepared = run(tmp_path, "csv", source, columns)
    first = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
    assert prepared.interactions.rows() == [("a", "1", first, "buy"), ("a", "2", first + 86_400, "interaction")]
    assert prepared.items["title"].to_list() == ["One", "2"]
    assert prepared.manifest.warnings == {"items_without_title": 1}
    assert "2024-01-01 to 2024-01-02" in prepared.line


def test_gzip_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    first = run(tmp_path / "a", "csv", folder_of(tmp_path, interactions__csv=LOG))
    (tmp_path / "source" / "interactions.csv").unlink()
    second = run(tmp_path / "b", "csv", folder_of(tmp_path, interactions__csv__gz=gzip.compress(LOG.encode())))
    (tmp_path / "source" / "interactions.csv.gz").unlink()
    frame = pl.read_csv(LOG.encode(), schema_overrides={"item_id": pl.String})
    third = run(tmp_path / "c", "csv", folder_of(tmp_path, interactions__parquet=parquet(frame)))
    assert first.manifest.content_hash == second.manifest.content_hash == third.manifest.content_hash


def test_integer_ids_and_real_times_in_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": [2, 1], "item_id": [5, 6], "timestamp": [datetime(2024, 1, 2), datetime(2024, 1, 1)]}
    )
    described = pl.DataFrame({"item_id": [5], "title": ["Five"], "categories": [["A"]], "year": [1999], "price": [1.5]})
    source = folder_of(tmp_path, interactions__parquet=parquet(frame), items__parquet=parquet(described))
    prepared = run(tmp_path, "csv", source)
    assert prepared.interactions["user_id"].to_list() == ["1", "2"]
    assert prepared.interactions["timestamp"].to_list() == [1_704_067_200, 1_704_153_600]
    assert prepared.items.row(0) == ("5", "Five", ["A"], 1999, 1.5)


def test_items_described_twice_and_unreadable_values_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = (
        "item_id,title,category,year,price\n007,First,A,soon,free\n007,Second,B,1999,2\n"
        "7,Seven,,,\n9,Nine,,,\n5,Cold,,,\n"
    )
    prepared = run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG, items__csv=described))
    assert prepared.items.row(by_predicate=pl.col("item_id") == "007") == ("007", "First", ["A"], None, None)
    assert prepared.manifest.warnings == {"items_described_twice": 1, "unreadable_years": 1, "unreadable_prices": 1}
    assert (prepared.manifest.items, prepared.manifest.catalogue) == (3, 4)
    assert "warning: 1 items are described more than once" in capsys.readouterr().out


def test_blank_lines_quotes_and_a_byte_order_mark_are_no_fault(tmp_path: Path) -> None:
    log = '\ufeffuser_id,item_id,timestamp,note\n\na,"x,1",5,"two\nlines"\n\nb,y,6,\n\n\n'
    prepared = run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=log))
    assert prepared.interactions.rows() == [("a", "x,1", 5, "interaction"), ("b", "y", 6, "interaction")]


HEADER = "user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", "interactions.csv: the file is empty"),
        (HEADER, "interactions.csv: the file has no rows"),
        (HEADER + "\n\n", "interactions.csv: the file has no rows"),
        (
            "user,item_id,timestamp\na,b,1\n",
            "the column is missing; expected user_id, item_id, timestamp; the file has user, item_id, timestamp",
        ),
        ("user_id,user_id,item_id,timestamp\na,a,b,1\n", "line 1, column 'user_id': there are 2 columns of this name"),
        (HEADER + "a,b,1\n,b,2\n", "line 3, column 'user_id': the id is empty"),
        (HEADER + "a,b,1\na,,2\n", "line 3, column 'item_id': the id is empty"),
        (HEADER + "a,b,1\n\na,b,soon\n", "line 4, column 'timestamp': 'soon' cannot be read as a timestamp"),
        (HEADER + 'a,"b\nb",1\na,b,x\n', "line 4, column 'timestamp': 'x' cannot be read as a timestamp"),
        (HEADER + "a,b,2024-01-01\na,b,2024-02-30\n", "line 3, column 'timestamp': '2024-02-30'"),
        (HEADER + "a,b,1\na,b\n", "line 3: 2 fields, but 3 are expected"),
        (HEADER + "a,b,1\na,b,2,3\n", "line 3: 4 fields, but 3 are expected"),
        (HEADER + "a,b,x\na,b,2,3\n", "line 2, column 'timestamp': 'x'"),
        ("user_id,x,item_id,timestamp,y\na,1,b,2,3\na,1,b,2,3,4\n", "line 3: 6 fields, but 5 are expected"),
        ("user_id,item_id,timestamp,x\na,b,2,3\na,b,2\n", "line 3: 3 fields, but 4 are expected"),
        (HEADER.encode() + b"a,b,1\na,\xff,2\n", "line 3, column 'item_id': the text is not UTF-8"),
    ],
)
def test_a_bad_log_is_refused_by_file_line_and_column(tmp_path: Path, log: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as refusal:
        run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=log))
    assert "interactions.csv" in str(refusal.value)
    assert [path.name for path in (tmp_path / "data" / "processed").iterdir()] == ["csv.lock"]


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            "id,title\n1,x\n",
            "items.csv, column 'item_id': the column is missing; expected item_id; the file has id, title",
        ),
        ("item_id,title\n1,x\n,y\n", "items.csv, line 3, column 'item_id': the id is empty"),
        ("item_id,title\n1,x,y\n", "items.csv, line 2: 3 fields"),
        ("", "items.csv: the file is empty"),
    ],
)
def test_a_bad_items_file_is_refused(tmp_path: Path, described: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG, items__csv=described))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"user_id": ["a"], "item_id": ["b"]}), "column 'timestamp': the column is missing"),
        (
            pl.DataFrame({"user_id": ["a", None], "item_id": ["b", "c"], "timestamp": [1, 2]}),
            "column 'user_id': row 2: the id",
        ),
        (
            pl.DataFrame(
                {"user_id": ["a"], "item_id": ["b"], "timestamp": [None]}, schema_overrides={"timestamp": pl.Int64}
            ),
            "column 'timestamp': row 1: the value cannot be read",
        ),
        (pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "timestamp": [[1]]}), "is not a timestamp"),
        (
            pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}),
            "the file has no rows",
        ),
    ],
)
def test_a_bad_parquet_log_is_refused(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "csv", folder_of(tmp_path, interactions__parquet=parquet(frame)))


@pytest.mark.parametrize("name", ["interactions__parquet", "interactions__csv__gz"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    whole = gzip.compress((LOG + "bo,9,10\n" * 5000).encode())
    with pytest.raises(DataError, match=r"not a parquet file|compressed file is broken"):
        run(tmp_path, "csv", folder_of(tmp_path, **{name: whole[:-40]}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("user_id", "DATA_COLUMNS: 'user_id' is not of the form ours=theirs"),
        ("user=customer", "DATA_COLUMNS: 'user' is not one of the columns"),
        ("user_id=a,user_id=b", "DATA_COLUMNS: 'user_id' is given twice"),
        (
            "event=kind",
            "DATA_COLUMNS: no file has a column 'kind' (for 'event'); they have user_id, item_id, timestamp",
        ),
    ],
)
def test_bad_column_names_are_refused(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG), columns)


def test_two_logs_are_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG, interactions__csv__gz=gzip.compress(LOG.encode()))
    found = r"expected one of these files, but found interactions\.csv and interactions\.csv\.gz"
    with pytest.raises(DataError, match=found):
        run(tmp_path, "csv", source)
