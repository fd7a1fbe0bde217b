"""EASE: a linear model of which items go together (Steck 2019, "Embarrassingly Shallow Autoencoders", equation 8)."""

import numpy as np
import torch
from numpy.typing import NDArray

from training.sequences import Sequences

REGULARISATION_PER_USER = 0.05
"""Times the number of users it is added to the diagonal of the co-occurrence counts."""
USERS_PER_CHUNK = 2048


def ease_weights(sequences: Sequences) -> NDArray[np.float32]:
    """[num_items + 1, num_items + 1]: the weight of the row's item in the column's score; the diagonal is 0.

    Dense, and its time grows with the cube of the number of items: the caller says up to which size it is worth it.
    """
    items, users = sequences.train_events()
    size = sequences.num_items + 1
    together = np.zeros((size, size), dtype=np.float32)
    for start in range(0, sequences.num_users, USERS_PER_CHUNK):
        of_chunk = slice(*np.searchsorted(users, [start, start + USERS_PER_CHUNK]))
        touched = np.zeros((USERS_PER_CHUNK, size), dtype=np.float32)
        touched[users[of_chunk] - start, items[of_chunk]] = 1.0
        together += touched.T @ touched
    gram = torch.from_numpy(together[1:, 1:])
    gram.diagonal().add_(REGULARISATION_PER_USER * sequences.num_users)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = np.zeros((size, size), dtype=np.float32)
    weights[1:, 1:] = (-inverse / inverse.diagonal()).numpy()
    np.fill_diagonal(weights, 0.0)
    return weights
