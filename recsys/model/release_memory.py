"""How much memory of a release cannot be reclaimed while it is loaded, estimated from its files.

Measured with 1,000,000 items, 128 dimensions and 460 content features. Most of it is the vocabulary, which consists of
Python objects. Weights, candidate embeddings, ranking tables and items are mapped from files and not counted: the
kernel drops their pages if it needs memory, and reads them again.
"""

from pathlib import Path

from recsys.model.files import SECOND_STAGE_FILE, VOCABULARY_FILE

BYTES_PER_ITEM = 150
"""An id's string without its characters, its places in the tuple and in the dictionary of ids, and its index."""
BYTES_PER_TREE_BYTE = 3
"""LightGBM's trees, per byte of their file."""
ACTIVITY_BYTES_PER_ITEM = 16
"""The activity with live events, of a release with a second stage."""
UPDATE_BYTES_PER_ITEM = 130
"""While that is computed, of one release at a time."""
LOADING_BYTES_PER_ITEM = 50
"""While the vocabulary is read: its text, and a list of the ids."""
WORKSPACE_BYTES = 48_000_000
"""For one chunk of the candidate tower, and the buffers of the libraries that compute it."""


def resident_bytes(num_items: int, directory: Path) -> int:
    """What unloading the release frees."""
    return (
        (BYTES_PER_ITEM + ACTIVITY_BYTES_PER_ITEM * _has_second_stage(directory)) * num_items
        + _size(directory / VOCABULARY_FILE)
        + BYTES_PER_TREE_BYTE * _size(directory / SECOND_STAGE_FILE)
    )


def loading_bytes(num_items: int, directory: Path) -> int:
    """What loading the release needs, and what the first update of its items' activity does."""
    meanwhile = max(LOADING_BYTES_PER_ITEM, UPDATE_BYTES_PER_ITEM * _has_second_stage(directory))
    return resident_bytes(num_items, directory) + meanwhile * num_items + WORKSPACE_BYTES


def _has_second_stage(directory: Path) -> bool:
    return (directory / SECOND_STAGE_FILE).is_file()


def _size(path: Path) -> int:
    """0 if there is no such file: the second stage is optional."""
    return path.stat().st_size if path.is_file() else 0
