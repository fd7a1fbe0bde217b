"""The content features of the candidate tower, from columns of items.parquet.

Every feature is 0 or 1. The width is bounded for every catalogue: 160 categories, 32 years, 12 prices, 256 words of
titles. A missing column or a null leaves its features 0.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

MAX_CATEGORIES = 160
MAX_YEARS = 32
YEARS_PER_BUCKET = 5
MAX_PRICES = 12
MAX_WORDS = 256
MIN_ITEMS_PER_CATEGORY = 2
MIN_ITEMS_PER_WORD = 5
MAX_SHARE_PER_WORD = 0.2
"""Words in a larger share of the titles, like `the`, do not distinguish items."""


def content_features(items_parquet: Path, item_ids: Sequence[str]) -> NDArray[np.uint8]:
    """[len(item_ids) + 1, features]: row r is item_ids[r - 1], row 0 (padding) is all zeros."""
    order = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
    items = order.join(pl.read_parquet(items_parquet), on="item_id", how="left", maintain_order="left")
    blocks = [_multi_hot(values, width, minimum, maximum) for values, width, minimum, maximum in _columns(items)]
    features = np.concatenate([*blocks, np.zeros((len(item_ids), 0), dtype=np.uint8)], axis=1)
    return np.concatenate([np.zeros((1, features.shape[1]), dtype=np.uint8), features])


def _columns(items: pl.DataFrame) -> list[tuple[list[list[str]], int, int, float]]:
    """Per column: every item's features, their maximum number, and the minimum number and maximum share of items."""

    def column(name: str, features_of: Callable[[object], list[str]]) -> list[list[str]]:
        if name not in items.columns:
            return [[]] * items.height
        return [[] if value is None else features_of(value) for value in items[name].to_list()]

    return [
        (column("categories", _categories), MAX_CATEGORIES, MIN_ITEMS_PER_CATEGORY, 1.0),
        (column("year", _year), MAX_YEARS, 1, 1.0),
        (column("price", _price), MAX_PRICES, 1, 1.0),
        (column("title", _words), MAX_WORDS, MIN_ITEMS_PER_WORD, MAX_SHARE_PER_WORD),
    ]


def _categories(value: object) -> list[str]:
    return [str(category) for category in value if category] if isinstance(value, list) else []


def _year(value: object) -> list[str]:
    return [str(int(str(value)) // YEARS_PER_BUCKET)]


def _price(value: object) -> list[str]:
    """Buckets by powers of two: twice the price is the next bucket."""
    price = float(str(value))
    return [str(int(np.clip(np.floor(np.log2(price)), -1, MAX_PRICES - 2)))] if price > 0 else []


def _words(value: object) -> list[str]:
    return list(set(re.findall(r"\w{2,}", str(value).lower())))


def _multi_hot(values: list[list[str]], width: int, minimum: int, maximum: float) -> NDArray[np.uint8]:
    """[items, at most `width`] for the most frequent features within the bounds, ties in alphabetical order."""
    counts = Counter(feature for features in values for feature in set(features))
    allowed = [(-n, feature) for feature, n in counts.items() if minimum <= n <= max(minimum, maximum * len(values))]
    column_of = {feature: column for column, (_, feature) in enumerate(sorted(allowed)[:width])}
    matrix = np.zeros((len(values), len(column_of)), dtype=np.uint8)
    for row, features in enumerate(values):
        for feature in features:
            if feature in column_of:
                matrix[row, column_of[feature]] = 1
    return matrix
