"""Which users are evaluated: all of them, or a random sample of very many."""

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import Sequences

MAX_USERS = 20_000
"""Above this number a random sample is evaluated. The standard error of NDCG@10 is then about 0.002."""


def tested_users(sequences: Sequences, seed: int) -> NDArray[np.int64]:
    """The users with a test item, at most MAX_USERS of them, in ascending order."""
    return sample_users(sequences.tested_users, seed)


def sample_users(users: NDArray[np.int64], seed: int, limit: int = MAX_USERS) -> NDArray[np.int64]:
    """At most `limit` of the users, in ascending order."""
    return users if len(users) <= limit else np.sort(np.random.default_rng(seed).permutation(users)[:limit])
