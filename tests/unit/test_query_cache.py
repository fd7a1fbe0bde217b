"""The cache of query embeddings: bounded by bytes, and the oldest used entries go first."""

import numpy as np

from recsys.model.query_cache import ENTRY_BYTES, QueryCache

EMBEDDING = np.ones(8, dtype=np.float32)
ENTRY = 2 * 4 + EMBEDDING.nbytes + ENTRY_BYTES
"""Bytes of an entry with two item indices."""


def test_an_embedding_is_found_by_its_item_indices_in_their_order() -> None:
    cache = QueryCache()
    cache.put((1, 2), EMBEDDING)
    assert cache.get([1, 2]) is EMBEDDING
    assert cache.get((2, 1)) is None
    assert cache.get(()) is None


def test_the_oldest_used_entry_makes_room() -> None:
    cache = QueryCache(max_bytes=2 * ENTRY)
    cache.put((1, 1), EMBEDDING)
    cache.put((2, 2), EMBEDDING)
    cache.get((1, 1))
    cache.put((3, 3), EMBEDDING)
    assert [cache.get((index, index)) is None for index in (1, 2, 3)] == [False, True, False]
    assert cache.num_bytes == 2 * ENTRY


def test_long_histories_leave_room_for_fewer_entries() -> None:
    cache = QueryCache(max_bytes=20 * ENTRY)
    for start in range(1000):
        cache.put(range(start, start + 200), EMBEDDING)
        assert cache.num_bytes <= 20 * ENTRY
    assert 0 < len(cache) < 20


def test_an_entry_that_is_replaced_is_counted_once() -> None:
    cache = QueryCache()
    cache.put((1, 2), EMBEDDING)
    cache.put((1, 2), EMBEDDING)
    assert (len(cache), cache.num_bytes) == (1, ENTRY)
