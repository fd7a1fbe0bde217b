"""EASE: a linear item-item model (Steck 2019, "Embarrassingly Shallow Autoencoders", equation 8)."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from training.datasets.sequences import Sequences

REGULARISATION_PER_USER = 0.05
"""Multiplied by the number of users with training items, and added to the diagonal of the co-occurrence counts."""
USERS_PER_CHUNK = 16_384
MAX_PRODUCTS = 5_000_000_000
"""Of a log in which more pairs of a user's items are counted, a random sample of users is used: the sum over users of
the squared number of items. It bounds the time to about a minute."""
_SAMPLE_SEED = 0
"""Fixed, so that every caller gets the same weights for the same log."""


def ease_weights(sequences: Sequences) -> NDArray[np.float32]:
    """[num_items + 1, num_items + 1]: the weight of the row's item in the column's score; the diagonal is 0.

    The matrix is dense, and the time grows with the cube of the number of items, so callers limit the catalogue size.
    The regularisation follows the number of users that are counted.
    """
    together, num_users = _items_together(sequences)
    size = len(together)
    gram = torch.from_numpy(together)[1:, 1:]
    gram.diagonal().add_(REGULARISATION_PER_USER * num_users)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = np.zeros((size, size), dtype=np.float32)
    weights[1:, 1:] = (-inverse / inverse.diagonal()).numpy()
    np.fill_diagonal(weights, 0.0)
    return weights


def _items_together(sequences: Sequences) -> tuple[NDArray[np.float32], int]:
    """[num_items + 1, num_items + 1]: how many users touched both items; and how many users were counted."""
    items, users = sequences.train_events()
    lengths = sequences.train_lengths
    counted = lengths > 0
    share = MAX_PRODUCTS / max(1.0, float(np.square(lengths.astype(np.float64)).sum()))
    if share < 1:
        counted &= np.random.default_rng(_SAMPLE_SEED).random(sequences.num_users) < share
        items, users = items[counted[users]], users[counted[users]]
    size = sequences.num_items + 1
    together = np.zeros((size, size), dtype=np.float32)
    for start in range(0, sequences.num_users, USERS_PER_CHUNK):
        of_chunk = slice(*np.searchsorted(users, [start, start + USERS_PER_CHUNK]))
        cells = (users[of_chunk] - start, items[of_chunk])
        touched = sp.csr_matrix((np.ones(len(cells[0]), np.float32), cells), shape=(USERS_PER_CHUNK, size))
        touched.data[:] = 1.0  # a repeated item counts once
        together += (touched.T @ touched).toarray()
    return together, int(counted.sum())
