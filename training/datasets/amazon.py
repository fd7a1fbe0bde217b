"""Amazon Reviews 2023: JSON lines, plain or gzipped. An item is a `parent_asin`: a product with all its variants."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets import json_lines
from training.datasets.faults import LogColumns, LogLine, raise_first_fault
from training.datasets.folder import find, need
from training.datasets.item_values import RawItem, gather
from training.datasets.tables import RawItems, RawLog, RawTables
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

    def read(self, folder: Path) -> RawTables:
        reviews, *products = self.inputs(folder)
        return RawTables(_log(reviews), gather(_products(products[0])) if products else RawItems())


def _log(path: Path) -> RawLog:
    if next(json_lines.objects(path), None) is None:
        raise DataError("the file is empty", file=path)
    seconds = whole_number("timestamp")

    def lines() -> Iterator[LogLine]:
        for line, review in json_lines.objects(path):
            for column in _COLUMNS:
                if review.get(column) is None:
                    problem = f"the value is missing; the object has {', '.join(review)}"
                    raise DataError(problem, file=path, line=line, column=column)
            user, item, timestamp = (str(review[column]) for column in _COLUMNS)
            yield LogLine(line, user, item, timestamp)

    rows = json_lines.scan(path, _COLUMNS).select(
        pl.col(_COLUMNS.user_id).alias("user_id"),
        pl.col(_COLUMNS.item_id).alias("item_id"),
        seconds.alias("timestamp"),
        pl.lit("review").alias("event"),
        pl.any_horizontal(pl.col(_COLUMNS).is_null()).alias("suspect"),
    )
    return RawLog(path, rows, lambda: raise_first_fault(path, lines(), _COLUMNS, seconds))


def _products(path: Path) -> Iterator[RawItem]:
    for line, product in json_lines.objects(path):
        item_id = product.get("parent_asin")
        if not item_id:
            raise DataError("the id is missing", file=path, line=line, column="parent_asin")
        price = product.get("price")
        yield RawItem(
            str(item_id),
            product.get("title"),
            product.get("categories") or product.get("main_category"),
            price=None if price in _NO_PRICE else price,
        )
