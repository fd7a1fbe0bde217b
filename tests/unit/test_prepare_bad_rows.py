"""Bad rows: refused by default, or dropped with BAD_ROWS=drop, counted by reason and listed in a file."""

import csv
import io
import json
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recsys.contracts.base import MAX_ID_LENGTH, ItemId
from recsys.errors import DataError
from tests.unit.prepare_case import Prepared, folder_of, run, settings
from training.datasets.bad_rows import REJECTS_FILE
from training.jobs.prepare import prepare

HEADER = "user_id,item_id,timestamp\n"
GOOD = "".join(f"u{number},x,{number + 1}\n" for number in range(9))
LONG = "x" * (MAX_ID_LENGTH + 1)


def dropped(tmp_path: Path, dataset: str, source: Path, columns: str | None = None, **others: object) -> Prepared:
    return run(tmp_path, dataset, source, columns, bad_rows="drop", **others)


def rejects(tmp_path: Path, dataset: str = "csv") -> list[tuple[str, int, str, object]]:
    """(file, line, reason, record) of every rejected row."""
    path = settings(tmp_path, dataset).processed_dir / REJECTS_FILE
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return [(row["file"], int(row["line"]), row["reason"], json.loads(row["record"])) for row in rows]


def parquet(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    frame.write_parquet(folder / f"{name}.parquet")
    return folder


def test_an_export_with_a_quarter_of_empty_ids_is_read_if_bad_rows_may_be_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pl.DataFrame({"customer": ["a", None, "b", "c"] * 25, "sku": ["x"] * 100, "when": range(100)})
    source = parquet(folder_of(tmp_path), "interactions", frame)
    columns = "user_id=customer,item_id=sku,timestamp=when"
    with pytest.raises(DataError, match=r"'customer': row 2: the id is empty; BAD_ROWS=drop leaves out rows like this"):
        run(tmp_path, "csv", source, columns)

    prepared = dropped(tmp_path, "csv", source, columns)
    assert prepared.manifest.rows == 75
    assert prepared.manifest.rejected == {"interactions.parquet": {"empty_user_id": 25}}
    found = rejects(tmp_path)
    assert len(found) == 25
    assert found[:2] == [
        ("interactions.parquet", 2, "empty_user_id", {"customer": None, "sku": "x", "when": "1"}),
        ("interactions.parquet", 6, "empty_user_id", {"customer": None, "sku": "x", "when": "5"}),
    ]
    listed = settings(tmp_path, "csv").processed_dir / REJECTS_FILE
    expected = f"warning: rows of interactions.parquet were dropped: empty_user_id (25); see {listed}"
    assert expected in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("row", "reason", "record"),
    [
        (",x,1", "empty_user_id", {"user_id": "", "item_id": "x", "timestamp": "1"}),
        ("u,,1", "empty_item_id", {"user_id": "u", "item_id": "", "timestamp": "1"}),
        (f"{LONG},x,1", "long_user_id", {"user_id": LONG, "item_id": "x", "timestamp": "1"}),
        (f"u,{LONG},1", "long_item_id", {"user_id": "u", "item_id": LONG, "timestamp": "1"}),
        ("u,x,soon", "unreadable_timestamp", {"user_id": "u", "item_id": "x", "timestamp": "soon"}),
        ("u,x", "wrong_number_of_fields", ["u", "x"]),
        ("u,x,1,2", "wrong_number_of_fields", ["u", "x", "1", "2"]),
        ("u,\udcff,1", "not_utf8", ["u", "\udcff", "1"]),
        ('u,"x"y,1', "broken_quotes", 'u,"x"y,1'),
    ],
)
def test_every_kind_of_bad_line_is_dropped_and_counted(tmp_path: Path, row: str, reason: str, record: object) -> None:
    log = (HEADER + GOOD[:7] + row + "\n\n" + GOOD[7:]).encode(errors="surrogateescape")
    prepared = dropped(tmp_path, "csv", folder_of(tmp_path, interactions__csv=log))
    expected = run(tmp_path / "clean", "csv", folder_of(tmp_path, interactions__csv=HEADER + GOOD))
    assert prepared.manifest.rejected == {"interactions.csv": {reason: 1}}
    assert rejects(tmp_path) == [("interactions.csv", 3, reason, record)]
    assert prepared.manifest.content_hash == expected.manifest.content_hash


def test_a_bad_first_line_does_not_decide_how_timestamps_are_read(tmp_path: Path) -> None:
    prepared = dropped(tmp_path, "csv", folder_of(tmp_path, interactions__csv=HEADER + "u,x,never\n,x\n" + GOOD))
    assert prepared.manifest.rejected == {"interactions.csv": {"unreadable_timestamp": 1, "wrong_number_of_fields": 1}}
    assert prepared.interactions["timestamp"].to_list() == list(range(1, 10))


def test_an_unclosed_quote_is_refused_because_it_swallows_the_lines_after_it(tmp_path: Path) -> None:
    log = HEADER + GOOD + 'u,"x,1\n' + GOOD
    source = folder_of(tmp_path, interactions__csv=log)
    with pytest.raises(DataError, match=r"interactions\.csv, line 11: .*a quote is probably not closed"):
        dropped(tmp_path, "csv", source)


def test_the_same_rows_are_dropped_from_a_file_without_a_header(tmp_path: Path) -> None:
    good = "".join(f"{number}::10::5::97830076{number}\n" for number in range(9))
    source = folder_of(tmp_path, ratings__dat=good + "1::2\n::10::5::1\n", movies__dat="10::One (1995)::Drama\n")
    prepared = dropped(tmp_path, "ml-1m", source)
    assert prepared.manifest.rows == 9
    assert prepared.manifest.rejected == {"ratings.dat": {"wrong_number_of_fields": 1, "empty_user_id": 1}}


def test_bad_lines_of_json_are_dropped(tmp_path: Path) -> None:
    def line(**values: object) -> str:
        return json.dumps({"user_id": "u", "parent_asin": "x", "timestamp": 5, **values}) + "\n"

    good = "".join(line(user_id=f"u{number}") for number in range(20))
    bad = '{"user_id": \n[1]\n' + line(user_id="") + line(parent_asin=LONG) + line(timestamp=None)
    half_pair = line(user_id="\ud800", note="whole")
    products = '{"parent_asin": "x", "title": "X"}\nnothing\n{"title": "Nameless"}\n' * 2
    source = folder_of(tmp_path, Toys__jsonl=good + bad + half_pair, meta_Toys__jsonl=products)
    prepared = dropped(tmp_path, "amazon-Toys", source, max_bad_rows=0.7)
    assert prepared.manifest.rows == 20
    assert prepared.manifest.rejected == {
        "meta_Toys.jsonl": {"not_json": 2, "empty_item_id": 2},
        "Toys.jsonl": {
            "not_json": 2,
            "empty_user_id": 1,
            "long_item_id": 1,
            "unreadable_timestamp": 1,
            "not_utf8": 1,
        },
    }
    assert ("Toys.jsonl", 21, "not_json", '{"user_id": ') in rejects(tmp_path, "amazon-Toys")


def test_more_bad_rows_than_the_stated_share_are_refused_with_their_reasons(tmp_path: Path) -> None:
    log = HEADER + GOOD + ",x,1\n" * 3 + "u,x,soon\n" * 2
    source = folder_of(tmp_path, interactions__csv=log)
    with pytest.raises(DataError) as refusal:
        dropped(tmp_path, "csv", source)
    assert "interactions.csv: 5 of 14 rows (35.7%) are bad" in str(refusal.value)
    assert "empty_user_id (3, first in line 11), unreadable_timestamp (2, first in line 14)" in str(refusal.value)
    assert "MAX_BAD_ROWS=0.3" in str(refusal.value)
    assert dropped(tmp_path, "csv", source, max_bad_rows=0.4).manifest.rows == 9


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_the_share_is_between_none_and_all(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValidationError, match="max_bad_rows"):
        settings(tmp_path, "csv", max_bad_rows=share)


def test_a_log_of_bad_rows_alone_has_no_rows(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=HEADER + ",x,1\n")
    with pytest.raises(DataError, match="has no rows"):
        dropped(tmp_path, "csv", source, max_bad_rows=1)


def test_another_policy_prepares_again(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=HEADER + GOOD + ",x,1\n")
    dropped(tmp_path, "csv", source)
    assert "up to date" in prepare(settings(tmp_path, "csv", source, bad_rows="drop"))
    with pytest.raises(DataError, match="line 11"):
        run(tmp_path, "csv", source)
    with pytest.raises(DataError, match=re.escape("MAX_BAD_ROWS=0.05")):
        dropped(tmp_path, "csv", source, max_bad_rows=0.05)


def test_nothing_is_listed_if_no_row_is_bad(tmp_path: Path) -> None:
    prepared = dropped(tmp_path, "csv", folder_of(tmp_path, interactions__csv=HEADER + GOOD))
    assert prepared.manifest.rejected == {}
    assert not (settings(tmp_path, "csv").processed_dir / REJECTS_FILE).exists()


@pytest.mark.parametrize(
    ("row", "reason"),
    [(",Nameless", "empty_item_id"), (f"{LONG},Long", "long_item_id"), ("z,Torn,1", "wrong_number_of_fields")],
)
def test_bad_items_are_dropped(tmp_path: Path, row: str, reason: str) -> None:
    items = "item_id,title\n" + "".join(f"{number},Item\n" for number in range(9)) + row + "\n"
    source = folder_of(tmp_path, interactions__csv=HEADER + GOOD, items__csv=items)
    with pytest.raises(DataError, match=r"items\.csv, line 11.*BAD_ROWS=drop"):
        run(tmp_path, "csv", source)
    prepared = dropped(tmp_path, "csv", source)
    assert prepared.manifest.catalogue == 10
    assert prepared.manifest.rejected == {"items.csv": {reason: 1}}
    assert rejects(tmp_path)[0][:3] == ("items.csv", 11, reason)


def test_bad_items_of_a_parquet_file_are_refused_by_row(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=HEADER + GOOD)
    parquet(source, "items", pl.DataFrame({"item_id": ["x", LONG], "title": ["X", "Long"]}))
    message = "items.parquet, column 'item_id': row 2: the id has 129 characters, but at most 128 are allowed"
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "csv", source)


@pytest.mark.parametrize(
    ("row", "place"), [(f"{LONG},x,1", "line 11, column 'user_id'"), (f"u,{LONG},1", "line 11, column 'item_id'")]
)
def test_a_long_id_is_refused_with_its_length(tmp_path: Path, row: str, place: str) -> None:
    source = folder_of(tmp_path, interactions__csv=HEADER + GOOD + row + "\n")
    message = f"interactions.csv, {place}: the id has 129 characters, but at most 128 are allowed"
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "csv", source)


accepted_by_the_api = TypeAdapter(ItemId)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=3)
    | st.integers(MAX_ID_LENGTH - 1, MAX_ID_LENGTH + 1).flatmap(
        lambda n: st.sampled_from("aé😀\n").map(lambda c: c * n)
    )
)
def test_prepared_ids_are_those_that_the_api_accepts(tmp_path: Path, item_id: str) -> None:
    frame = pl.DataFrame({"user_id": ["u"], "item_id": [item_id], "timestamp": [1]})
    source = parquet(folder_of(tmp_path), "interactions", frame)
    try:
        accepted_by_the_api.validate_python(item_id)
    except ValidationError:
        with pytest.raises(DataError):
            run(tmp_path, "csv", source)
    else:
        assert run(tmp_path, "csv", source).items["item_id"].to_list() == [item_id]
