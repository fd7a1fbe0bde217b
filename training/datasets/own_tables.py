"""DATASET=csv: an `interactions` table and an optional `items` table, each .csv, .csv.gz or .parquet."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets import parquet_table, text_log
from training.datasets.bad_rows import BadRows, RawRow
from training.datasets.column_names import ColumnNames
from training.datasets.folder import find, need
from training.datasets.item_values import RawItem, gather
from training.datasets.tables import LogColumns, RawItems, RawLog, RawTables
from training.datasets.text_table import TextTable
from training.datasets.timestamps import seconds, typical

DEFAULT_EVENT = "interaction"
_EXAMPLES = 1_000
"""Rows that decide whether timestamps as text are numbers or ISO 8601."""
_KINDS = (".csv", ".csv.gz", ".parquet")
_LOG_FILES = tuple(f"interactions{kind}" for kind in _KINDS)
_ITEM_FILES = tuple(f"items{kind}" for kind in _KINDS)


class OwnTables:
    def __init__(self, names: ColumnNames) -> None:
        self._names = names

    def inputs(self, folder: Path) -> list[Path]:
        for names in (_LOG_FILES, _ITEM_FILES):
            if len(here := [name for name in names if find(folder, name)]) > 1:
                raise DataError(f"expected one of these files, but found {' and '.join(here)}", file=folder)
        items = find(folder, *_ITEM_FILES)
        return [need(folder, *_LOG_FILES), *([items] if items else [])]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        paths = self.inputs(folder)
        self._names.require_known(*map(_columns, paths))
        log, *items = paths
        return RawTables(self._log(log), self._items(items[0], bad_rows) if items else RawItems())

    def _log(self, path: Path) -> RawLog:
        columns = _columns(path)
        theirs = LogColumns(*(self._require(path, columns, ours) for ours in LogColumns._fields))
        event_column = self._names.find("event", columns)
        event = pl.lit(DEFAULT_EVENT)
        if event_column is not None:
            given = pl.col(event_column).cast(pl.String)
            event = pl.when(given.fill_null("") == "").then(event).otherwise(given)
        if path.suffix == ".parquet":
            return self._parquet_log(path, theirs, event)
        table = TextTable(path)
        place = columns.index(theirs.timestamp)
        example = typical(row.record[place] for row in islice(table.rows(), _EXAMPLES) if not row.fault)
        return text_log.raw_log(table, theirs, seconds("timestamp", pl.String(), example), event)

    def _parquet_log(self, path: Path, theirs: LogColumns, event: pl.Expr) -> RawLog:
        dtype = pl.read_parquet_schema(path)[theirs.timestamp]
        if not (dtype.is_numeric() or dtype in (pl.Date, pl.Datetime, pl.String)):
            raise DataError(f"a {dtype} is not a timestamp", file=path, column=theirs.timestamp)
        head = pl.scan_parquet(path, glob=False).select(theirs.timestamp).drop_nulls().head(_EXAMPLES).collect()
        return parquet_table.raw_log(path, theirs, seconds("timestamp", dtype, typical(head.to_series())), event)

    def _items(self, path: Path, bad_rows: BadRows) -> RawItems:
        columns = _columns(path)
        item_id = self._require(path, columns, "item_id")
        title, categories, category, year, price = (
            self._names.find(ours, columns) for ours in ("title", "categories", "category", "year", "price")
        )

        def items() -> Iterator[RawItem]:
            for row in bad_rows.usable(path, _rows(path)):
                values = row.record
                yield RawItem(
                    row.place,
                    values[item_id],
                    *(
                        values[name] if name is not None else None
                        for name in (title, categories or category, year, price)
                    ),
                )

        return gather(items(), path, item_id, bad_rows)

    def _require(self, path: Path, columns: tuple[str, ...], ours: str) -> str:
        theirs = self._names.find(ours, columns)
        if theirs is None:
            wanted = LogColumns._fields if path.name.startswith("interactions") else ("item_id",)
            expected = ", ".join(map(self._names.expected, wanted))
            problem = f"the column is missing; expected {expected}; the file has {', '.join(columns)}"
            raise DataError(problem, file=path, column=self._names.expected(ours))
        return theirs


def _columns(path: Path) -> tuple[str, ...]:
    return parquet_table.columns_of(path) if path.suffix == ".parquet" else TextTable(path).columns


def _rows(path: Path) -> Iterator[RawRow]:
    """Every row, with its values by column if it could be read."""
    if path.suffix == ".parquet":
        yield from parquet_table.rows(path)
        return
    table = TextTable(path)
    for row in table.rows():
        yield row if row.fault else row._replace(record=dict(zip(table.columns, row.record, strict=True)))
