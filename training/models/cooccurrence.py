"""Item co-occurrence: which items follow which, how closely and how often. Used for the item table and a baseline."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from training.datasets.sequences import Sequences

WINDOW = 10
MAX_PAIRS = 50_000_000
"""Only the first events are used above this number of pairs, which bounds the memory."""


def directed_cooccurrence(sequences: Sequences) -> sp.csr_matrix:
    """[num_items + 1, num_items + 1]: sum of 1/distance over the times that column followed row within the window."""
    return cooccurrence(sequences, [1.0 / distance for distance in range(1, WINDOW + 1)])


def cooccurrence(sequences: Sequences, weight_at: list[float]) -> sp.csr_matrix:
    """[num_items + 1, num_items + 1]: sum of weight_at[distance - 1] over the times that column followed row."""
    items, users = (events[: MAX_PAIRS // len(weight_at)] for events in sequences.train_events())
    size = sequences.num_items + 1
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
