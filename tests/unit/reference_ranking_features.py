"""The features of the second stage in NumPy: slower than those of the product, and easier to read.

A reference for the compiled ones.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.model.item_activity import ACTIVITY_NAMES
from recsys.model.neighbours import Indices, Neighbours
from recsys.model.ranking_feature_names import CONTENT_ITEMS, DECAYS, EASE_DECAYS, LATEST_ITEMS, SIMILAR_ITEMS
from recsys.model.ranking_tables import RankingTables, stored_name

Features = NDArray[np.float32]
NEVER = 999.0
"""The age of an item that is not in the history."""


class ReferenceFeatures:
    """Of one release: candidate_embeddings [num_items, embedding_dim], content [num_items + 1, content features]."""

    def __init__(self, tables: RankingTables, candidate_embeddings: Features, content: NDArray[np.uint8]) -> None:
        self._tables = tables
        self._embeddings = candidate_embeddings
        self._content = content
        # Rare content is more informative: its weight is the square root of the inverse document frequency.
        shares = content[1:].mean(axis=0, dtype=np.float64)
        self._content_weights = np.sqrt(-np.log(np.clip(shares, 1e-6, 1.0))).astype(np.float32)

    def of(self, history: Indices, candidates: Indices, query_embedding: Features) -> dict[str, Features]:
        """history [steps >= 1] oldest first, candidates [candidates] without repeats -> [candidates] by name."""
        latest = history[::-1]
        return {
            **self._of_tower(candidates, query_embedding),
            **self._of_items(candidates, len(history)),
            **self._of_repeats(latest, candidates),
            **self._of_neighbours(latest, candidates),
            **self._of_similarity(latest, candidates),
            **self._of_content(latest, candidates),
            **self._of_category(latest, candidates),
            **self._of_distances(latest, candidates),
        }

    def _of_tower(self, candidates: Indices, query_embedding: Features) -> dict[str, Features]:
        embeddings = self._embeddings[candidates - 1]
        score = embeddings @ query_embedding
        behind_best = score - score.max()
        order = np.argsort(-score, kind="stable")
        rank = np.empty(len(score), dtype=np.float32)
        rank[order] = np.arange(len(score))
        return {
            "tower_score": score,
            "tower_behind_best": behind_best,
            "tower_log_probability": behind_best - np.log(np.exp(behind_best).sum()),
            "tower_rank": rank,
            "tower_bias": embeddings[:, -1],
        }

    def _of_items(self, candidates: Indices, steps: int) -> dict[str, Features]:
        tables = self._tables
        columns = ("popularity", "mean_log_position", "mean_share_before", "mean_log_history_length", "year")
        of_items = {stored_name(name): getattr(tables, name)[candidates] for name in columns}
        of_items |= dict(zip(ACTIVITY_NAMES, tables.activity[candidates].T, strict=True))
        return {**of_items, "history_length": np.full(len(candidates), steps, dtype=np.float32)}

    def _of_repeats(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        """How often and how many steps ago the candidate itself is in the history, for catalogues with repeats."""
        at = latest[:, None] == candidates
        times = at.sum(axis=0, dtype=np.float32)
        age = np.where(times > 0, at.argmax(axis=0), NEVER).astype(np.float32)
        return {"times_seen": times, "steps_since_seen": age}

    def _of_neighbours(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        tables = self._tables
        column_of = np.full(len(tables.popularity), -1, dtype=np.int32)
        column_of[candidates] = np.arange(len(candidates), dtype=np.int32)
        features: dict[str, Features] = {}
        for name, depth in LATEST_ITEMS.items():
            neighbours: Neighbours = getattr(tables, name)
            found = lookup(neighbours, latest[:depth], column_of, len(candidates))
            for age in range(3 if name in ("next_items", "followers") else 1):
                features[f"{name}_{age}"] = found[age] if age < len(found) else np.zeros_like(found[0])
            features |= _decayed(name, found, DECAYS)
            strongest = found.max(axis=0)
            features[f"{name}_strongest"] = strongest
            features[f"{name}_strongest_age"] = np.where(strongest > 0, found.argmax(axis=0), NEVER).astype(np.float32)
            features[f"{name}_count"] = (found > 0).sum(axis=0, dtype=np.float32)
        found = lookup(tables.ease, latest, column_of, len(candidates))
        return features | _decayed("ease", found, EASE_DECAYS)

    def _of_similarity(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        """Cosines between the embeddings of the candidates and of the latest items, without the bias."""
        of_candidates = _unit(self._embeddings[candidates - 1, :-1])
        of_history = _unit(self._embeddings[latest[:SIMILAR_ITEMS] - 1, :-1])
        cosines = of_history @ of_candidates.T
        return {
            "similarity_0": cosines[0],
            "similarity_highest": cosines.max(axis=0),
            "similarity_highest_of_10": cosines[:10].max(axis=0),
            **_decayed("similarity", cosines, (0.8, 0.97), mean=True),
        }

    def _of_content(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        overlap = self._content_vectors(latest[:CONTENT_ITEMS]) @ self._content_vectors(candidates).T
        return {"content_0": overlap[0], **_decayed("content", overlap, (0.8, 1.0), mean=True)}

    def _of_category(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        category = self._tables.category
        recent = np.expm1(self._tables.activity[:, 0])
        share = np.array([recent[item] / recent[category == category[item]].sum() for item in candidates])
        same = (category[latest][:, None] == category[candidates]) & (category[candidates] > 0)
        of_history = _decayed("category", same.astype(np.float32), (0.8, 0.95, 1.0), mean=True)
        share_in_category = np.where(category[candidates] > 0, share, 0).astype(np.float32)
        both = {f"category_and_item_{name[9:]}": values * share_in_category for name, values in of_history.items()}
        return {"share_in_category": share_in_category, **of_history, **both}

    def _of_distances(self, latest: Indices, candidates: Indices) -> dict[str, Features]:
        year, log_price = self._tables.year, self._tables.log_price
        rows = latest[:CONTENT_ITEMS]
        years = np.abs(year[candidates] - year[rows[:10], None])
        prices = np.abs(log_price[candidates] - log_price[rows[:10], None])
        return {
            "year_distance_0": years[0],
            "year_distance": years.mean(axis=0),
            "price_distance_0": prices[0],
            "price_distance": prices.mean(axis=0),
        }

    def _content_vectors(self, items: Indices) -> Features:
        """[items] -> [items, content features] of length 1, or 0 if an item has no content."""
        return _unit(self._content[items] * self._content_weights)


def lookup(
    neighbours: Neighbours, rows: Indices, column_of: NDArray[np.int32], num_columns: int
) -> NDArray[np.float32]:
    """The entries of `rows` [rows] (item indices) as a matrix [rows, num_columns], 0 if there is no entry.

    column_of [num_items + 1] maps an item to its column; -1 for items to leave out, including the padding item.
    """
    columns = column_of.take(neighbours.items.take(rows, axis=0)).ravel()
    wanted = np.flatnonzero(columns >= 0)
    row, place = np.divmod(wanted, neighbours.items.shape[1])
    found = np.zeros((len(rows), num_columns), dtype=np.float32)
    found[row, columns[wanted]] = neighbours.weights[rows[row], place]
    return found


def _decayed(name: str, found: Features, decays: tuple[float, ...], *, mean: bool = False) -> dict[str, Features]:
    """found [ages, candidates] -> its sum (or mean) over ages, weighted by decay ** age, for every decay."""
    ages = np.arange(len(found), dtype=np.float32)
    weights = np.asarray(decays, dtype=np.float32)[:, None] ** ages
    if mean:
        weights /= weights.sum(axis=1, keepdims=True)
    return dict(zip((f"{name}_{decay}" for decay in decays), weights @ found, strict=True))


def _unit(rows: Features) -> Features:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Features = rows / np.maximum(lengths, 1e-6)
    return units
