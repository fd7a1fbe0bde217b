"""Cached query embeddings: `rank` follows `encode` with the same recent items."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2 << 20
"""Per release; at least 1,000 queries with a history of 200 items and 256 dimensions."""
ENTRY_BYTES = 300
"""Of one entry, besides the contents of its key and its embedding: the objects around them."""

Embedding = NDArray[np.float32]


class QueryCache:
    """The latest query embeddings by the item indices they were computed from. At the limit, the oldest used one goes.

    It knows no release, so a release that owns it is freed with its last reference.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()  # jobs encode in several threads

    @property
    def num_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._embeddings)

    def get(self, indices: Sequence[int]) -> Embedding | None:
        key = _key(indices)
        with self._lock:
            found = self._embeddings.get(key)
            if found is not None:
                self._embeddings.move_to_end(key)
            return found

    def put(self, indices: Sequence[int], embedding: Embedding) -> None:
        key = _key(indices)
        with self._lock:
            self._remove(key)
            self._embeddings[key] = embedding
            self._bytes += _size(key, embedding)
            while self._bytes > self._max_bytes:
                self._remove(next(iter(self._embeddings)))

    def _remove(self, key: bytes) -> None:
        removed = self._embeddings.pop(key, None)
        if removed is not None:
            self._bytes -= _size(key, removed)


def _key(indices: Sequence[int]) -> bytes:
    """Four bytes per item, where a tuple of integers takes 36."""
    return np.asarray(indices, dtype=np.int32).tobytes()


def _size(key: bytes, embedding: Embedding) -> int:
    return len(key) + embedding.nbytes + ENTRY_BYTES
