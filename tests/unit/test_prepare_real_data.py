"""The published MovieLens sets, where they are at hand: the counts that their README states."""

import os
from pathlib import Path

import polars as pl
import pytest

from tests.unit.prepare_case import Prepared, run

SHARED = Path(os.environ.get("TANDEM_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
COUNTS = {
    "ml-latest-small": (100_836, 610, 9_724),
    "ml-100k": (100_000, 943, 1_682),
    "ml-1m-sequences": (999_611, 6_040, 3_416),
}


def prepared_from(tmp_path: Path, folder: str, dataset: str) -> Prepared:
    source = SHARED / folder
    if not source.is_dir():
        pytest.skip(f"{source} is not here; TANDEM_SHARED names the folder that holds data/{folder}")
    prepared = run(tmp_path, dataset, source)
    manifest = prepared.manifest
    assert (manifest.rows, manifest.users, manifest.items) == COUNTS[folder]
    assert prepared.interactions.height == manifest.rows
    assert prepared.interactions["item_id"].is_in(prepared.items["item_id"].implode()).all()
    assert prepared.interactions.select("user_id", "timestamp").equals(
        prepared.interactions.select("user_id", "timestamp").sort("user_id", "timestamp")
    )
    return prepared


def title(prepared: Prepared, item_id: str) -> tuple[object, ...]:
    return prepared.items.row(by_predicate=pl.col("item_id") == item_id)


def test_ml_latest_small(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, "ml-latest-small", "ml-latest-small")
    assert prepared.manifest.warnings == {}
    assert "1996-03-29 to 2018-09-24" in prepared.line
    assert title(prepared, "2571") == ("2571", "The Matrix", ["Action", "Sci-Fi", "Thriller"], 1999, None)
    assert title(prepared, "7789")[1] == "11'09\"01 - September 11"
    assert prepared.items.filter(pl.col("categories").list.contains("(no genres listed)")).is_empty()


def test_ml_100k(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, "ml-100k", "ml-100k")
    assert prepared.manifest.warnings == {}
    assert title(prepared, "1") == ("1", "Toy Story", ["Animation", "Children's", "Comedy"], 1995, None)
    assert prepared.items["title"].str.contains("é").any()


def test_the_sequences_of_ml_1m_keep_their_order(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, "ml-1m-sequences", "csv")
    assert prepared.manifest.warnings.keys() <= {"items_without_description"}
    first = prepared.interactions.filter(pl.col("user_id") == "5988").head(3)
    assert first["item_id"].to_list() == ["1198", "3552", "356"]
    assert first["timestamp"].to_list() == [1, 2, 3]
