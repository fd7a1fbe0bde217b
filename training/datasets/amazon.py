"""Amazon Reviews 2023: JSON lines, plain or gzipped. An item is a `parent_asin`: a product with all its variants."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets import json_lines
from training.datasets.bad_rows import BadRows, Fault, RawRow, Reason, has_surrogates
from training.datasets.faults import batches
from training.datasets.folder import find, need
from training.datasets.item_values import RawItem, gather
from training.datasets.tables import LogBatch, LogColumns, RawItems, RawLog, RawTables
from training.datasets.timestamps import whole_number

_COLUMNS = LogColumns("user_id", "parent_asin", "timestamp")
# The publisher's values for "no price"; they cause no warning.
_NO_PRICE = ("—", "-")


class AmazonReviews:
    def __init__(self, category: str) -> None:
        self._reviews = (f"{category}.jsonl", f"{category}.jsonl.gz")
        self._products = (f"meta_{category}.jsonl", f"meta_{category}.jsonl.gz")

    def inputs(self, folder: Path) -> list[Path]:
        products = find(folder, *self._products)
        return [need(folder, *self._reviews), *([products] if products else [])]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        reviews, *products = self.inputs(folder)
        return RawTables(_log(reviews), _products(products[0], bad_rows) if products else RawItems())


def _log(path: Path) -> RawLog:
    if next(json_lines.rows(path), None) is None:
        raise DataError("the file is empty", file=path)

    def ours(theirs: pl.LazyFrame, *more: pl.Expr) -> pl.LazyFrame:
        return theirs.select(
            pl.col(_COLUMNS.user_id).alias("user_id"),
            pl.col(_COLUMNS.item_id).alias("item_id"),
            whole_number("timestamp").alias("timestamp"),
            pl.lit("review").alias("event"),
            *more,
        )

    def to_frame(rows: list[RawRow]) -> pl.DataFrame:
        theirs = {column: [None if row.fault else row.record.get(column) for row in rows] for column in _COLUMNS}
        return ours(pl.LazyFrame(theirs, schema=dict.fromkeys(_COLUMNS, pl.String))).collect()

    def in_batches() -> Iterator[LogBatch]:
        return batches(map(_values, json_lines.rows(path)), to_frame)

    # polars reads half of a surrogate pair, which JSON can escape, as a null character.
    suspect = pl.any_horizontal(
        pl.col(_COLUMNS).is_null(), pl.col(_COLUMNS.user_id, _COLUMNS.item_id).str.contains("\0", literal=True)
    )
    return RawLog(path, _COLUMNS, ours(json_lines.scan(path, _COLUMNS), suspect.alias("suspect")), in_batches)


def _values(row: RawRow) -> RawRow:
    """The row with the values of our columns alone, as text; a missing value stays missing."""
    if row.fault is not None:
        return row
    values = {column: str(row.record[column]) for column in _COLUMNS if row.record.get(column) is not None}
    for column, value in values.items():
        if has_surrogates(value):
            fault = Fault(Reason.NOT_UTF8, "the value has half of a surrogate pair", column)
            return RawRow(row.place, values, fault)
    return RawRow(row.place, values)


def _products(path: Path, bad_rows: BadRows) -> RawItems:
    def products() -> Iterator[RawItem]:
        for row in bad_rows.usable(path, json_lines.rows(path)):
            product = row.record
            price = product.get("price")
            yield RawItem(
                row.place,
                product.get(_COLUMNS.item_id),
                product.get("title"),
                product.get("categories") or product.get("main_category"),
                price=None if price in _NO_PRICE else price,
            )

    return gather(products(), path, _COLUMNS.item_id, bad_rows)
