"""Item co-occurrence: which items follow which, how closely and how often. Used for the item table and a baseline.

A log with more than MAX_PAIRS pairs is counted in parts of random users, so memory is bounded and no user is preferred.
"""

import math
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from training.datasets.sequences import Sequences

WINDOW = 10
MAX_PAIRS = 50_000_000
"""Pairs that are counted at once."""
MAX_PARTS = 5
"""Parts that are counted. A log with more parts is sampled, which bounds the time: a part takes some 10 s of CPU."""
MAX_ENTRIES = 50_000_000
"""Different pairs that are kept between the parts and in the result."""
_PARTS_SEED = 0
"""Fixed, so that every caller gets the same counts of the same log."""
_Events = tuple[NDArray[np.int32], NDArray[np.int64]]


def directed_cooccurrence(sequences: Sequences) -> sp.csr_matrix:
    """[num_items + 1, num_items + 1]: sum of 1/distance over the times that column followed row within the window."""
    return cooccurrence(sequences, [1.0 / distance for distance in range(1, WINDOW + 1)])


def cooccurrence(sequences: Sequences, weight_at: list[float]) -> sp.csr_matrix:
    """[num_items + 1, num_items + 1]: sum of weight_at[distance - 1] over the times that column followed row.

    Of a log with more than MAX_PAIRS * MAX_PARTS pairs, it is the sum over a random sample of users. If there are more
    than MAX_ENTRIES different pairs, it lacks the weakest ones of the items with the most neighbours.
    """
    size = sequences.num_items + 1
    total = sp.csr_matrix((size, size), dtype=np.float32)
    for items, users in _parts(sequences, len(weight_at)):
        total = strongest_entries(total + _of_part(items, users, size, weight_at), MAX_ENTRIES)
    return total


def strongest_entries(matrix: sp.csr_matrix, max_entries: int) -> sp.csr_matrix:
    """At most `max_entries` entries, but at least one per row: the longest rows lose their smallest values."""
    if matrix.nnz <= max_entries:
        return matrix
    lengths = np.diff(matrix.indptr)
    shortest, longest = 1, int(lengths.max())
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if np.minimum(lengths, middle).sum() <= max_entries:
            shortest = middle
        else:
            longest = middle - 1
    kept = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > shortest):
        start, surplus = matrix.indptr[row], lengths[row] - shortest
        kept[start + np.argpartition(matrix.data[start : start + lengths[row]], surplus - 1)[:surplus]] = False
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, shortest))])
    return sp.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _parts(sequences: Sequences, window: int) -> Iterator[_Events]:
    """Items [events] and users [events] of random users, in order: parts of about MAX_PAIRS pairs each."""
    items, users = sequences.train_events()
    num_parts = math.ceil(len(items) * window / MAX_PAIRS)
    if num_parts <= 1:
        yield items, users
        return
    part_of_user = np.random.default_rng(_PARTS_SEED).integers(num_parts, size=sequences.num_users, dtype=np.int32)
    part_of_event = part_of_user[users]
    for part in range(min(num_parts, MAX_PARTS)):
        chosen = part_of_event == part
        yield items[chosen], users[chosen]


def _of_part(items: NDArray[np.int32], users: NDArray[np.int64], size: int, weight_at: list[float]) -> sp.csr_matrix:
    total = sp.csr_matrix((size, size), dtype=np.float32)
    for distance, weight_of_one in enumerate(weight_at, start=1):
        same_user = users[:-distance] == users[distance:]
        before, after = items[:-distance][same_user], items[distance:][same_user]
        different = before != after
        weight = np.full(int(different.sum()), weight_of_one, dtype=np.float32)
        total = total + sp.coo_matrix((weight, (before[different], after[different])), shape=(size, size)).tocsr()
    return total


def ppmi_vectors(cooccurrence: sp.csr_matrix, dim: int, seed: int) -> NDArray[np.float32]:
    """[rows, dim]: U sqrt(S) of the positive pointwise mutual information of the symmetric co-occurrence.

    Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization", section 3; the truncated SVD is
    the randomised one of Halko, Martinsson and Tropp 2011, algorithm 4.4, with two power iterations. Rows of items
    without neighbours are zero; so are the last columns if there are fewer items than `dim`.
    """
    symmetric = (cooccurrence + cooccurrence.T).tocoo()
    mass = np.asarray(symmetric.sum(axis=1)).ravel()
    expected = mass[symmetric.row] * mass[symmetric.col] / mass.sum()
    information = np.log(symmetric.data / expected)
    positive = information > 0
    rows, columns = symmetric.row[positive], symmetric.col[positive]
    ppmi = sp.csr_matrix((information[positive].astype(np.float32), (rows, columns)), shape=symmetric.shape)

    random = np.random.default_rng(seed)
    width = min(dim + 16, ppmi.shape[0])
    basis = _orthonormal(ppmi @ random.standard_normal((ppmi.shape[0], width)).astype(np.float32))
    for _ in range(2):
        basis = _orthonormal(ppmi @ basis)
    # ppmi is symmetric and nearly basis @ (ppmi @ basis).T, whose SVD is that of a [width, width] matrix.
    other = ppmi @ basis
    other_basis = _orthonormal(other)
    left, strength, _ = np.linalg.svd((other_basis.T @ other).T)
    rank = min(dim, width)
    vectors = np.zeros((ppmi.shape[0], dim), dtype=np.float32)
    vectors[:, :rank] = (basis @ left[:, :rank]) * np.sqrt(strength[:rank])
    return vectors


def _orthonormal(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """A basis of the columns' span, by torch, because numpy's QR is many times slower on tall matrices."""
    basis: NDArray[np.float32] = torch.linalg.qr(torch.from_numpy(matrix))[0].numpy()
    return basis
