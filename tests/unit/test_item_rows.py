"""Items are found by id alone, and in little memory."""

from collections.abc import Collection

import numpy as np
import pytest

from recsys.adapters import item_rows
from recsys.adapters.item_rows import ItemRows

IDS = [f"item {number}" for number in range(1000)] + ["übergröße 🚀", "a\0b", "?#%2F"]


def test_items_are_found_and_unknown_ones_are_not() -> None:
    assert ItemRows(IDS).rows_of(["?#%2F", "unknown", "item 7", "item 7"]) == [len(IDS) - 1, None, 7, 7]
    assert ItemRows(IDS).rows_of(IDS) == list(range(len(IDS)))
    assert ItemRows(IDS).rows_of([]) == []


def test_an_empty_catalogue_knows_nothing() -> None:
    assert ItemRows([]).rows_of(["item 7"]) == [None]


def test_an_id_with_the_hash_of_an_item_is_not_that_item(monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths(item_ids: Collection[str]) -> np.ndarray:
        return np.array([len(item_id) for item_id in item_ids], dtype=np.int64)

    monkeypatch.setattr(item_rows, "_hashes", lengths)
    assert ItemRows(["a", "bb"]).rows_of(["bb", "cc"]) == [1, None]


def test_an_item_takes_twelve_bytes() -> None:
    rows = ItemRows(IDS)
    assert (len(rows), rows.nbytes) == (len(IDS), 12 * len(IDS))
