"""EASE: a linear item-item model (Steck 2019, "Embarrassingly Shallow Autoencoders", equation 8)."""

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.sequences import Sequences

REGULARISATION_PER_USER = 0.05
"""Multiplied by the number of users with training items, and added to the diagonal of the co-occurrence counts."""
USERS_PER_CHUNK = 2048
MAX_USERS = 20_000
"""Only the first users are used above this number, which is enough for the statistics."""


def ease_weights(sequences: Sequences) -> NDArray[np.float32]:
    """[num_items + 1, num_items + 1]: the weight of the row's item in the column's score; the diagonal is 0.

    The matrix is dense, and the time grows with the cube of the number of items, so callers limit the catalogue size.
    """
    items, users = sequences.train_events()
    size = sequences.num_items + 1
    num_users = min(sequences.num_users, MAX_USERS)
    trained_users = np.count_nonzero(sequences.train_lengths[:num_users])
    together = torch.zeros((size, size))
    for start in range(0, num_users, USERS_PER_CHUNK):
        of_chunk = slice(*np.searchsorted(users, [start, start + USERS_PER_CHUNK]))
        touched = torch.zeros((USERS_PER_CHUNK, size))
        touched[torch.from_numpy(users[of_chunk] - start), torch.from_numpy(np.asarray(items[of_chunk]))] = 1.0
        together += touched.T @ touched
    gram = together[1:, 1:]
    gram.diagonal().add_(REGULARISATION_PER_USER * trained_users)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = np.zeros((size, size), dtype=np.float32)
    weights[1:, 1:] = (-inverse / inverse.diagonal()).numpy()
    np.fill_diagonal(weights, 0.0)
    return weights
