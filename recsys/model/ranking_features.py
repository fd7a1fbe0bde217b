"""The candidates' features for the second stage, computed by the same code in training and in serving.

They depend only on the request (recent items, candidates, query embedding) and on the release, so a model is served
with the same numbers that it was trained on. The loops are in `ranking_kernels`.
"""

from copy import copy
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.model import ranking_kernels as kernels
from recsys.model.category_trends import shares_within
from recsys.model.item_activity import ACTIVITY_NAMES, Activity, unknown_activity
from recsys.model.neighbours import Indices, Neighbours
from recsys.model.ranking_feature_names import (
    AGES,
    CATEGORY_DECAYS,
    CONTENT_DECAYS,
    CONTENT_ITEMS,
    DECAYS,
    DISTANCE_ITEMS,
    EASE_DECAYS,
    FEATURE_NAMES,
    HIGHEST_OF,
    ITEM_COLUMNS,
    LATEST_ITEMS,
    SIMILAR_ITEMS,
    SIMILARITY_DECAYS,
    TOWER_NAMES,
)
from recsys.model.ranking_tables import RankingTables

Features = NDArray[np.float32]
SHORTEST = 1e-6
NEVER = float(kernels.NEVER)


class RankingFeatures:
    """Of one release: candidate_embeddings [num_items, embedding_dim], content [num_items + 1, content features]."""

    def __init__(self, tables: RankingTables, candidate_embeddings: Features, content: NDArray[np.uint8]) -> None:
        self._tables = tables
        self._embeddings = candidate_embeddings
        self._content = content
        # Rare content is more informative: its weight is the square root of the inverse document frequency.
        shares = content[1:].mean(axis=0, dtype=np.float64)
        self._content_weights = np.sqrt(-np.log(np.clip(shares, 1e-6, 1.0))).astype(np.float32)
        self._set_activity(tables.activity)

    def at(self, activity: Activity) -> Self:
        """The features at another moment than the end of the log."""
        copied = copy(self)
        copied._set_activity(activity)
        return copied

    def matrix(self, history: Indices, candidates: Indices, query_embedding: Features) -> Features:
        """history [steps >= 1] oldest first, candidates [candidates] without repeats -> [candidates, FEATURE_NAMES]."""
        latest = np.ascontiguousarray(history[::-1])
        embeddings = self._embeddings[candidates - 1]
        columns = _Columns(len(candidates))
        self._add_tower(columns, embeddings, query_embedding)
        self._add_items(columns, candidates, len(history))
        self._add_neighbours(columns, latest, candidates)
        self._add_similarity(columns, latest, embeddings)
        self._add_content(columns, latest, candidates)
        self._add_category(columns, latest, candidates)
        for values in (self._tables.year, self._tables.log_price):
            kernels.distances(latest[:DISTANCE_ITEMS], candidates, values, columns.take(2))
        return columns.features

    def _set_activity(self, activity: Activity) -> None:
        self._activity = activity
        self._share_in_category = shares_within(self._tables.category, activity)

    def _add_tower(self, columns: "_Columns", embeddings: Features, query_embedding: Features) -> None:
        score = embeddings @ query_embedding
        behind_best = score - score.max()
        features = columns.take(len(TOWER_NAMES))
        features[:, 0] = score
        features[:, 1] = behind_best
        features[:, 2] = behind_best - np.log(np.exp(behind_best).sum())
        features[np.argsort(-score, kind="stable"), 3] = np.arange(len(score))
        features[:, 4] = embeddings[:, -1]

    def _add_items(self, columns: "_Columns", candidates: Indices, steps: int) -> None:
        for name in ITEM_COLUMNS:
            columns.take(1)[:, 0] = getattr(self._tables, name)[candidates]
        columns.take(len(ACTIVITY_NAMES))[:] = self._activity[candidates]
        columns.take(1)[:] = steps

    def _add_neighbours(self, columns: "_Columns", latest: Indices, candidates: Indices) -> None:
        table = kernels.columns_of(candidates)
        kernels.repeats(latest, table, columns.take(2))
        for name, depth in LATEST_ITEMS.items():
            matrix: Neighbours = getattr(self._tables, name)
            by_age, sums, strongest = columns.take(AGES[name]), columns.take(len(DECAYS)), columns.take(3)
            rows, decays = latest[:depth], _floats(DECAYS)
            kernels.neighbours(rows, matrix.items, matrix.weights, table, decays, by_age, sums, strongest)
        ease, decays = self._tables.ease, _floats(EASE_DECAYS)
        none, sums = columns.take(0), columns.take(len(EASE_DECAYS))
        kernels.neighbours(latest, ease.items, ease.weights, table, decays, none, sums, none)

    def _add_similarity(self, columns: "_Columns", latest: Indices, embeddings: Features) -> None:
        """Cosines between the embeddings of the candidates and of the latest items, without the bias."""
        of_history, of_candidates = self._embeddings[latest[:SIMILAR_ITEMS] - 1, :-1], embeddings[:, :-1]
        cosines = of_history @ of_candidates.T
        cosines /= _lengths(of_history)[:, None]
        cosines /= _lengths(of_candidates)
        columns.take(1)[:, 0] = cosines[0]
        kernels.highest(cosines, HIGHEST_OF, columns.take(2))
        kernels.decayed_means(cosines, _floats(SIMILARITY_DECAYS), columns.take(len(SIMILARITY_DECAYS)))

    def _add_content(self, columns: "_Columns", latest: Indices, candidates: Indices) -> None:
        rows = latest[:CONTENT_ITEMS]
        overlap = kernels.content_overlap(rows, candidates, self._content, self._content_weights)
        columns.take(1)[:, 0] = overlap[0]
        kernels.decayed_means(overlap, _floats(CONTENT_DECAYS), columns.take(len(CONTENT_DECAYS)))

    def _add_category(self, columns: "_Columns", latest: Indices, candidates: Indices) -> None:
        """How much the history is about the candidate's category, the candidate's share of the category's recent
        events, and the product of both: how likely that category is next, and this item of it."""
        category, shares = self._tables.category, columns.take(1)
        shares[:, 0] = self._share_in_category[candidates]
        of_history = columns.take(len(CATEGORY_DECAYS))
        kernels.shares_of_categories(category[latest], category[candidates], _floats(CATEGORY_DECAYS), of_history)
        columns.take(len(CATEGORY_DECAYS))[:] = of_history * shares


def compile_features() -> None:
    """Compile the loops, unless this process has, or load them from the cache on disk. Compiling takes ten seconds."""
    matrix = Neighbours(np.zeros((2, 1), dtype=np.int32), np.zeros((2, 1), dtype=np.float32))
    column = np.zeros(2, dtype=np.float32)
    tables = RankingTables(
        *(matrix, matrix, matrix, matrix, matrix),
        *(column, column, column, column, column, column),
        category=np.zeros(2, dtype=np.int32),
        activity=unknown_activity(1),
        sources=np.zeros(1, dtype=np.int64),
    )
    features = RankingFeatures(tables, np.ones((1, 2), dtype=np.float32), np.ones((2, 1), dtype=np.uint8))
    item = np.ones(1, dtype=np.int64)
    features.matrix(item, item, np.ones(2, dtype=np.float32))
    kernels.sums_by_item(item, matrix.items, matrix.weights, np.float32(1))


class _Columns:
    """Hands out the columns of a feature matrix from left to right."""

    def __init__(self, num_candidates: int) -> None:
        self.features: Features = np.empty((num_candidates, len(FEATURE_NAMES)), dtype=np.float32)
        self._next = 0

    def take(self, count: int) -> Features:
        """[candidates, count]: the next columns, to be filled."""
        taken = self.features[:, self._next : self._next + count]
        self._next += count
        return taken


@cache
def _floats(decays: tuple[float, ...]) -> Features:
    return np.array(decays, dtype=np.float32)


def _lengths(rows: Features) -> Features:
    """[rows, dim] -> [rows]; at least SHORTEST, so that they can divide."""
    lengths: Features = np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(SHORTEST))
    return lengths
