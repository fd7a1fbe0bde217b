"""The job as a whole: idempotent, whole or not at all, and the same bytes for the same input."""

import hashlib
import os
from pathlib import Path

import polars as pl
import pytest

from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, run, settings
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, MANIFEST_FILE, Manifest
from training.jobs.prepare import prepare

LOG = "user_id,item_id,timestamp\na,x,1600000000\na,y,1600090000\n"


def test_nothing_is_done_twice_until_the_input_changes(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG)
    first = run(tmp_path, "csv", source)
    directory = settings(tmp_path, "csv").processed_dir
    written = (directory / MANIFEST_FILE).stat().st_mtime_ns
    assert first.line == f"csv: 2 interactions, 1 users, 2 items, 2020-09-13 to 2020-09-14 -> {directory}"
    again = run(tmp_path, "csv", source)
    assert again.line == f"{directory} is up to date: 2 interactions, 1 users, 2 items, 2020-09-13 to 2020-09-14"
    assert (directory / MANIFEST_FILE).stat().st_mtime_ns == written

    os.utime(source / "interactions.csv", ns=(1, 1))
    assert "up to date" not in run(tmp_path, "csv", source).line
    folder_of(tmp_path, items__csv="item_id,title\nx,An item\n")
    described = run(tmp_path, "csv", source)
    assert described.items["title"].to_list() == ["An item", "y"]
    assert "up to date" not in run(tmp_path, "csv", source, "event=item_id").line


@pytest.mark.parametrize("name", [INTERACTIONS_FILE, CATALOGUE_FILE, MANIFEST_FILE])
def test_a_lost_file_is_made_again(tmp_path: Path, name: str) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG)
    first = run(tmp_path, "csv", source)
    (settings(tmp_path, "csv").processed_dir / name).unlink()
    again = run(tmp_path, "csv", source)
    assert "up to date" not in again.line
    assert again.manifest == first.manifest


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 2}'])
def test_a_manifest_of_another_make_counts_as_none(tmp_path: Path, content: str) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG)
    first = run(tmp_path, "csv", source)
    (settings(tmp_path, "csv").processed_dir / MANIFEST_FILE).write_text(content)
    assert run(tmp_path, "csv", source).manifest == first.manifest


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG)
    first = run(tmp_path, "csv", source)
    folder_of(tmp_path, interactions__csv=LOG + "a,z,never\n")
    with pytest.raises(DataError, match="line 4"):
        prepare(settings(tmp_path, "csv", source))
    directory = settings(tmp_path, "csv").processed_dir
    assert Manifest.read(directory) == first.manifest
    assert sorted(path.name for path in directory.parent.iterdir()) == ["csv", "csv.lock"]


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    prepared = run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG))
    directory = settings(tmp_path, "csv").processed_dir
    both = (directory / INTERACTIONS_FILE).read_bytes() + (directory / CATALOGUE_FILE).read_bytes()
    assert prepared.manifest.content_hash == hashlib.sha256(both).hexdigest()


def test_reading_a_manifest_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `make data` first"):
        Manifest.read(tmp_path)


def test_warnings_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG + "a,y,1600090000\n"))
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: 1 rows repeat an earlier row (same user, item, timestamp and event) and were dropped",
        "warning: 2 items have interactions but no description",
    ]


def test_more_rows_than_a_row_group_stay_in_order(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": pl.Series(range(600_000)) % 7, "item_id": pl.Series(range(600_000)) % 101})
    frame = frame.with_columns(timestamp=pl.int_range(600_000, 0, -1, dtype=pl.Int64))
    source = folder_of(tmp_path)
    frame.write_parquet(source / "interactions.parquet")
    prepared = run(tmp_path, "csv", source)
    expected = frame.sort("user_id", "timestamp").with_columns(pl.col("user_id", "item_id").cast(pl.String))
    assert prepared.interactions.drop("event").equals(expected)
