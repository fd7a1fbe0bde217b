"""The loops of the ranking features, compiled with Numba. Each function fills columns of a feature matrix in place.

Compilation takes seconds, so its results are cached on disk; `NUMBA_CACHE_DIR` chooses the folder.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Columns = tuple[NDArray[np.int64], NDArray[np.int32]]
"""A hash table with open addressing: (item indices [slots], their columns [slots])."""

NEVER = np.float32(999.0)
"""The age of an item that is not in the history."""
BLOCK = 16
"""Content features that are skipped together if none of them is set."""
FREE = -1
NO_COLUMN = -1
MULTIPLIER = 2654435761
"""Knuth, "The Art of Computer Programming", volume 3, section 6.4: multiplicative hashing."""

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def columns_of(candidates: Indices) -> Columns:
    """The column of each candidate, by item index. Its size depends on the request and not on the catalogue."""
    slots = 16
    while slots < 4 * len(candidates):
        slots *= 2
    keys, columns = np.full(slots, FREE, np.int64), np.full(slots, NO_COLUMN, np.int32)
    for column in range(len(candidates)):
        slot = (candidates[column] * MULTIPLIER) & (slots - 1)
        while keys[slot] != FREE:
            slot = (slot + 1) & (slots - 1)
        keys[slot], columns[slot] = candidates[column], column
    return keys, columns


@compiled
def _column(item: int, table: Columns) -> int:
    keys, columns = table
    slot = (item * MULTIPLIER) & (len(keys) - 1)
    while keys[slot] != FREE:
        if keys[slot] == item:
            return int(columns[slot])
        slot = (slot + 1) & (len(keys) - 1)
    return NO_COLUMN


@compiled
def repeats(latest: Indices, table: Columns, features: Floats) -> None:
    """features [candidates, 2]: how often the candidate is in the history, and how many steps ago."""
    features[:, 0] = 0
    features[:, 1] = NEVER
    for age in range(len(latest)):
        column = _column(latest[age], table)
        if column != NO_COLUMN:
            if features[column, 0] == 0:
                features[column, 1] = age
            features[column, 0] += 1


@compiled
def neighbours(
    latest: Indices,
    items: NDArray[np.int32],
    weights: Floats,
    table: Columns,
    decays: Floats,
    by_age: Floats,
    sums: Floats,
    strongest: Floats,
) -> None:
    """The candidate's entries in the matrix rows of the latest items. `by_age` and `strongest` may have no columns.

    by_age [candidates, ages]: the entry in the row of each of the latest items. sums [candidates, decays]: the sum of
    all entries times decay ** age. strongest [candidates, 3]: the largest entry, its age, and the number of positive
    entries.
    """
    by_age[:] = 0
    sums[:] = 0
    with_strongest = strongest.shape[1] > 0
    if with_strongest:
        strongest[:] = 0
        strongest[:, 1] = NEVER
    factors = np.ones(len(decays), np.float32)
    for age in range(len(latest)):
        row = latest[age]
        for place in range(items.shape[1]):
            column = _column(items[row, place], table)
            if column == NO_COLUMN:
                continue
            weight = weights[row, place]
            for each in range(len(decays)):
                sums[column, each] += factors[each] * weight
            if age < by_age.shape[1]:
                by_age[column, age] = weight
            if with_strongest and weight > 0:
                strongest[column, 2] += 1
                if weight > strongest[column, 0]:
                    strongest[column, 0] = weight
                    strongest[column, 1] = age
        factors *= decays


@compiled
def sums_by_item(
    latest: Indices, items: NDArray[np.int32], weights: Floats, decay: np.float32
) -> tuple[Indices, Floats]:
    """The items of the matrix rows of the latest items, each once, and their positive entries' sum over decay ** age.

    The memory depends on the number of entries and not on the catalogue.
    """
    slots = 16
    while slots < 2 * len(latest) * items.shape[1]:
        slots *= 2
    keys, sums = np.full(slots, FREE, np.int64), np.zeros(slots, np.float32)
    factor = np.float32(1)
    for age in range(len(latest)):
        row = latest[age]
        for place in range(items.shape[1]):
            weight = weights[row, place]
            if weight > 0:
                item = np.int64(items[row, place])
                slot = (item * MULTIPLIER) & (slots - 1)
                while keys[slot] != FREE and keys[slot] != item:
                    slot = (slot + 1) & (slots - 1)
                keys[slot] = item
                sums[slot] += factor * weight
        factor *= decay
    taken = keys != FREE
    return keys[taken], sums[taken]


@compiled
def decayed_means(found: Floats, decays: Floats, means: Floats) -> None:
    """found [ages, candidates] -> means [candidates, decays], weighted by decay ** age."""
    means[:] = 0
    for each in range(len(decays)):
        total, factor = np.float32(0), np.float32(1)
        for age in range(len(found)):
            for column in range(found.shape[1]):
                means[column, each] += factor * found[age, column]
            total += factor
            factor *= decays[each]
        means[:, each] /= total


@compiled
def highest(found: Floats, num_ages: int, features: Floats) -> None:
    """found [ages, candidates] -> features [candidates, 2]: the highest of all ages, and of the first `num_ages`."""
    features[:] = -np.inf
    for age in range(len(found)):
        for column in range(found.shape[1]):
            features[column, 0] = max(features[column, 0], found[age, column])
            if age < num_ages:
                features[column, 1] = max(features[column, 1], found[age, column])


@compiled
def content_overlap(rows: Indices, candidates: Indices, content: NDArray[np.uint8], weights: Floats) -> Floats:
    """[rows, candidates]: cosines between the weighted content vectors; 0 for an item without content.

    content [num_items + 1, content features], weights [content features].
    """
    squares = weights * weights
    of_rows = np.zeros((content.shape[1], len(rows)), np.float32)
    row_lengths = np.zeros(len(rows), np.float32)
    for age in range(len(rows)):
        for feature in range(content.shape[1]):
            value = np.float32(content[rows[age], feature])
            of_rows[feature, age] = value * squares[feature]
            row_lengths[age] += value * value * squares[feature]
    overlap = np.zeros((len(rows), len(candidates)), np.float32)
    products = np.zeros(len(rows), np.float32)
    for column in range(len(candidates)):
        length = np.float32(0)
        products[:] = 0
        for start in range(0, content.shape[1], BLOCK):
            end = min(start + BLOCK, content.shape[1])
            any_set = np.uint8(0)
            for feature in range(start, end):  # few are set, and this loop becomes one instruction
                any_set |= content[candidates[column], feature]
            if any_set:
                for feature in range(start, end):
                    value = np.float32(content[candidates[column], feature])
                    if value:
                        length += value * value * squares[feature]
                        for age in range(len(rows)):
                            products[age] += value * of_rows[feature, age]
        for age in range(len(rows)):
            both = np.sqrt(length) * np.sqrt(row_lengths[age])
            overlap[age, column] = products[age] / both if both > 0 else np.float32(0)
    return overlap


@compiled
def shares_of_categories(
    of_history: NDArray[np.int32], of_candidates: NDArray[np.int32], decays: Floats, shares: Floats
) -> None:
    """shares [candidates, decays]: the candidate's category's share of the history; 0 for category 0, which is none.

    of_history [ages] and of_candidates [candidates] are numbers of categories. Items count by decay ** age.
    """
    size = max(of_history.max(), of_candidates.max()) + 1
    for each in range(len(decays)):
        sums, total, factor = np.zeros(size, np.float32), np.float32(0), np.float32(1)
        for age in range(len(of_history)):
            sums[of_history[age]] += factor
            total += factor
            factor *= decays[each]
        sums[0] = 0
        for column in range(len(of_candidates)):
            shares[column, each] = sums[of_candidates[column]] / total


@compiled
def distances(rows: Indices, candidates: Indices, values: Floats, features: Floats) -> None:
    """features [candidates, 2]: the absolute difference from the first row's value, and the mean over the rows."""
    for column in range(len(candidates)):
        value, total = values[candidates[column]], np.float32(0)
        for row in rows:
            total += abs(value - values[row])
        features[column, 0] = abs(value - values[rows[0]])
        features[column, 1] = total / np.float32(len(rows))
