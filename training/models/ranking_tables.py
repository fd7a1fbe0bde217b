"""The tables of the second stage, from the training part of the sequences alone."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.model.item_activity import Activity
from recsys.model.neighbours import Neighbours
from recsys.model.ranking_tables import PER_ITEM, RankingTables
from recsys.model.sources import Source
from training.datasets.sequences import Sequences
from training.models.cooccurrence import MAX_ENTRIES as MAX_COOCCURRENCE_ENTRIES
from training.models.cooccurrence import MAX_PAIRS, MAX_PARTS, WINDOW, cooccurrence, directed_cooccurrence
from training.models.ease import MAX_PRODUCTS, REGULARISATION_PER_USER, ease_weights

ITEM_COLUMNS = ("categories", "year", "price")
"""The columns of the catalogue that the tables are made from."""
MAX_ENTRIES = 2_000_000
"""Per matrix. It bounds the size of a release: 100,000 items need no more than 10,000."""
MAX_NEIGHBOURS = 300
SESSION_WINDOW = 30
MAX_EASE_TABLE_ITEMS = 8_000
"""Larger catalogues have an empty EASE table."""
MIN_ITEMS_PER_CATEGORY = 10
"""In smaller categories there is nothing to be trending."""
SMOOTHING = 1.0
"""Added to a row's sum before dividing by it: an item seen once says little about what follows it."""


def table_settings() -> dict[str, float]:
    """Every setting that the tables follow from."""
    return {
        "max_entries": MAX_ENTRIES,
        "max_neighbours": MAX_NEIGHBOURS,
        "session_window": SESSION_WINDOW,
        "max_ease_table_items": MAX_EASE_TABLE_ITEMS,
        "smoothing": SMOOTHING,
        "max_cooccurrence_pairs": MAX_PAIRS,
        "max_cooccurrence_parts": MAX_PARTS,
        "max_cooccurrence_entries": MAX_COOCCURRENCE_ENTRIES,
        "follower_window": WINDOW,
        "max_ease_products": MAX_PRODUCTS,
        "ease_regularisation_per_user": REGULARISATION_PER_USER,
        "min_items_per_category": MIN_ITEMS_PER_CATEGORY,
    }


def ranking_tables(sequences: Sequences, catalogue: pl.DataFrame, activity: Activity) -> RankingTables:
    """catalogue: has ITEM_COLUMNS, and one row per item in the order of the item indices. No other sources are set."""
    followers = directed_cooccurrence(sequences)
    session = cooccurrence(sequences, [1.0] * SESSION_WINDOW)
    size = sequences.num_items + 1
    ease = ease_weights(sequences) if sequences.num_items <= MAX_EASE_TABLE_ITEMS else sp.csr_matrix((size, size))
    return RankingTables(
        next_items=strongest(_rows_to_shares(cooccurrence(sequences, [1.0]))),
        followers=strongest(_rows_to_shares(followers)),
        session=strongest(_rows_to_shares(session)),
        preceded=strongest(_rows_to_shares(followers.T).T),
        ease=strongest(ease),
        **_of_items(sequences),
        **_described(catalogue),
        category=narrowest_categories(catalogue["categories"].to_list()),
        activity=activity,
        sources=np.zeros(len(Source), dtype=np.int64),
        activity_base=None,
        feature_distribution=None,
    )


def narrowest_categories(categories: Sequence[Sequence[str]]) -> NDArray[np.int32]:
    """[items + 1]: of each item's categories, the number of the one with the fewest items; 0 for none.

    Categories with fewer than MIN_ITEMS_PER_CATEGORY items do not count. Ties go to the first in alphabetical order.
    """
    sizes = Counter(category for of_item in categories for category in set(of_item))
    by_size = sorted((size, category) for category, size in sizes.items() if size >= MIN_ITEMS_PER_CATEGORY)
    number_of = {category: number for number, (_, category) in enumerate(by_size, start=1)}
    narrowest = (
        min((number_of[category] for category in of_item if category in number_of), default=0) for of_item in categories
    )
    return np.array([0, *narrowest], dtype=np.int32)


def strongest(matrix: sp.csr_matrix | NDArray[np.float32]) -> Neighbours:
    """The entries with the largest absolute values in each row. Their number depends on the size of the catalogue."""
    matrix = sp.csr_matrix(matrix)
    size = matrix.shape[0]
    longest = int(np.diff(matrix.indptr).max(initial=1))
    kept = int(np.clip(MAX_ENTRIES // max(1, size - 1), 1, min(MAX_NEIGHBOURS, max(1, longest))))
    rows = np.repeat(np.arange(size), np.diff(matrix.indptr))
    order = np.lexsort((-np.abs(matrix.data), rows))
    place = np.arange(len(rows)) - matrix.indptr[rows]
    strong = place < kept
    rows, place, order = rows[strong], place[strong], order[strong]
    items, weights = np.zeros((size, kept), dtype=np.int32), np.zeros((size, kept), dtype=np.float32)
    items[rows, place] = matrix.indices[order]
    weights[rows, place] = matrix.data[order]
    return Neighbours(items, weights)


def _rows_to_shares(counts: sp.csr_matrix) -> sp.csr_matrix:
    totals = np.asarray(counts.sum(axis=1)).ravel() + SMOOTHING
    return sp.csr_matrix(sp.diags((1.0 / totals).astype(np.float32)) @ counts)


def _of_items(sequences: Sequences) -> dict[str, PER_ITEM]:
    items, users = sequences.train_events()
    lengths = sequences.train_lengths
    step = np.concatenate([np.arange(length) for length in lengths])
    counts = np.bincount(items, minlength=sequences.num_items + 1)

    def mean(values: NDArray[np.float64]) -> PER_ITEM:
        sums = np.bincount(items, values, minlength=len(counts))
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)

    return {
        "popularity": np.log1p(counts).astype(np.float32),
        "mean_log_position": mean(np.log1p(step)),
        "mean_share_before": mean(step / lengths[users]),
        "mean_log_history_length": mean(np.log(lengths[users])),
    }


def _described(catalogue: pl.DataFrame) -> dict[str, PER_ITEM]:
    """Year and log price by item index; NaN if unknown."""
    year = catalogue["year"].to_list()
    log_price = [math.log(price) if price is not None and price > 0 else None for price in catalogue["price"].to_list()]
    return {"year": _by_item_index(year), "log_price": _by_item_index(log_price)}


def _by_item_index(values: Sequence[float | None]) -> PER_ITEM:
    return np.array([np.nan, *(np.nan if value is None else value for value in values)], dtype=np.float32)
