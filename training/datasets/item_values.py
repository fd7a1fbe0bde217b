"""Raw values of an items file -> title, categories, year and price. Unreadable values become null and are counted."""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from training.datasets.bad_rows import BadRows, RawRow, item_id_fault
from training.datasets.tables import ITEM_SCHEMA, RawItems

UNREADABLE_YEAR = "unreadable_years"
UNREADABLE_PRICE = "unreadable_prices"

_BATCH = 100_000
_YEAR = re.compile(r"(\d{4})(?:\.0+)?")
_AMOUNT = re.compile(r"\d(?:[\d.,]*\d)?")
_CENTS = re.compile(r"[.,]\d{1,2}")
_NO_VALUE = ("", "none", "null", "nan")


class RawItem(NamedTuple):
    place: int
    """Its line, or its row in a parquet file; from 1."""
    item_id: object
    title: object = None
    categories: object = None
    year: object = None
    price: object = None


def gather(items: Iterable[RawItem], file: Path, id_column: str, bad_rows: BadRows) -> RawItems:
    """Parse the values of all items of a file, and reject those whose id cannot be used."""
    warnings: Counter[str] = Counter()
    # In batches: the columns of a frame take a tenth of the memory of Python objects.
    frames: list[pl.DataFrame] = []
    batch: list[tuple[str, str | None, list[str], int | None, float | None]] = []

    def to_frame() -> None:
        frames.append(pl.DataFrame(batch, schema=ITEM_SCHEMA, orient="row"))
        batch.clear()

    num_items = 0
    for item in items:
        item_id = "" if item.item_id is None else str(item.item_id)
        fault = item_id_fault(item_id, id_column)
        if fault is not None:
            record = {id_column: item.item_id, "title": item.title}
            bad_rows.reject(file, RawRow(item.place, record), fault)
            continue
        num_items += 1
        year, price = year_of(item.year), price_of(item.price)
        warnings[UNREADABLE_YEAR] += year is None and not _absent(item.year)
        warnings[UNREADABLE_PRICE] += price is None and not _absent(item.price)
        batch.append((item_id, title_of(item.title), categories_of(item.categories), year, price))
        if len(batch) == _BATCH:
            to_frame()
    to_frame()
    bad_rows.require_few(file, num_items)
    return RawItems(pl.concat(frames), {kind: count for kind, count in warnings.items() if count})


def title_of(value: object) -> str | None:
    return None if _absent(value) else " ".join(str(value).split()) or None


def categories_of(value: object) -> list[str]:
    """A list, `A|B`, or a list as text; without blanks and duplicates."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = str(value)[1:-1].split(",")
    if isinstance(value, list | tuple):
        names = [str(name).strip() for name in value if name is not None]
    else:
        names = [] if _absent(value) else [name.strip() for name in str(value).split("|")]
    return list(dict.fromkeys(name for name in names if name))


def year_of(value: object) -> int | None:
    found = None if _absent(value) else _YEAR.fullmatch(str(value).strip())
    return int(found[1]) if found else None


def price_of(value: object) -> float | None:
    """An amount, or the first amount in a text such as `from 12.99` or `$1,299.00`; never negative."""
    if _absent(value):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) and value >= 0 else None
    text = str(value)
    found = _AMOUNT.search(text)
    if found is None or text[: found.start()].rstrip(" $€£").endswith("-"):
        return None
    return _amount(found[0])


def _amount(digits: str) -> float:
    """`1,299.00`, `1.299,00`, `12,99`, `1,299`: the last separator is the decimal one, unless it groups thousands."""
    last = max(digits.rfind("."), digits.rfind(","))
    mark = digits[last] if last >= 0 else "."
    other = "," if mark == "." else "."
    grouping = digits.count(mark) > 1 or (
        mark == "," and _CENTS.fullmatch(digits[last:]) is None and other not in digits
    )
    whole = digits.replace(other, "")
    return float(whole.replace(mark, "") if grouping else whole.replace(mark, "."))


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _NO_VALUE)
