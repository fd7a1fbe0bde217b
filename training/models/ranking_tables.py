"""The tables of the second stage, from the training part of the sequences alone."""

import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.model.neighbours import Neighbours
from recsys.model.ranking_tables import PER_ITEM, RankingTables
from training.datasets.sequences import Sequences
from training.models.cooccurrence import cooccurrence, directed_cooccurrence
from training.models.ease import ease_weights

MAX_ENTRIES = 2_000_000
"""Per matrix, so that a release of 100,000 items is no larger than one of 10,000."""
MAX_NEIGHBOURS = 300
SESSION_WINDOW = 30
MAX_EASE_ITEMS = 8_000
SMOOTHING = 1.0
"""What a row's sum is raised by before it is divided by: an item seen once says little of what follows it."""


def ranking_tables(sequences: Sequences, items_file: Path) -> RankingTables:
    """items_file: line n describes item_index n, as a model's directory has it."""
    followers = directed_cooccurrence(sequences)
    session = cooccurrence(sequences, [1.0] * SESSION_WINDOW)
    size = sequences.num_items + 1
    ease = ease_weights(sequences) if sequences.num_items <= MAX_EASE_ITEMS else sp.csr_matrix((size, size))
    return RankingTables(
        next_items=strongest(_rows_to_shares(cooccurrence(sequences, [1.0]))),
        followers=strongest(_rows_to_shares(followers)),
        session=strongest(_rows_to_shares(session)),
        preceded=strongest(_rows_to_shares(followers.T).T),
        ease=strongest(ease),
        **_of_items(sequences),
        **_described(items_file, size),
    )


def strongest(matrix: sp.csr_matrix | NDArray[np.float32]) -> Neighbours:
    """The entries of largest absolute value of each row, as many as the size of the catalogue allows for."""
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
        "usual_step": mean(np.log1p(step)),
        "usual_share": mean(step / lengths[users]),
        "audience": mean(np.log(lengths[users])),
    }


def _described(items_file: Path, size: int) -> dict[str, PER_ITEM]:
    """Year and price of the catalogue's items, NaN where there is none."""
    year, log_price = (np.full(size, np.nan, dtype=np.float32) for _ in range(2))
    with items_file.open(encoding="utf-8") as lines:
        for index, line in enumerate(lines, start=1):
            item = json.loads(line)
            if item["year"] is not None:
                year[index] = item["year"]
            if item["price"] is not None and item["price"] > 0:
                log_price[index] = np.log(item["price"])
    return {"year": year, "log_price": log_price}
