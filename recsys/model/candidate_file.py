"""The candidate embeddings of a release as a file beside its copy: computed once, memory-mapped by every process.

Mapped memory can be reclaimed and read again, and replicas on one machine share it. The same array in each process
would take 4 bytes x embedding_dim per item and release.
"""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.two_tower import TwoTower

CANDIDATES_FILE = "candidates.npy"
CHECKED_ROWS = 1000
"""Rows that are computed again to check that an existing file belongs to the model."""


def mapped_candidates(model: TwoTower, directory: Path) -> NDArray[np.float32]:
    """[num_items, embedding_dim], as `TwoTower.candidate_tower` returns it; mapped from a file in `directory`.

    Writes the file if it is missing, incomplete, or from other weights or another version of this code. Only one
    process at a time may do that.
    """
    path = directory / CANDIDATES_FILE
    if not _is_of(model, path):
        _write(model, path)
    return np.asarray(np.load(path, mmap_mode="r"))


def _is_of(model: TwoTower, path: Path) -> bool:
    try:
        stored = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):  # missing; empty; no array, or shorter than its header says
        return False
    num_items = model.config.num_items
    if stored.shape != (num_items, model.config.embedding_dim) or stored.dtype != np.float32:
        return False
    rows = np.unique(np.linspace(0, num_items - 1, CHECKED_ROWS).astype(np.int64))
    with torch.inference_mode():
        expected = model.candidate_embeddings(torch.from_numpy(rows + 1)).numpy()
    return np.allclose(stored[rows], expected, rtol=1e-4, atol=1e-5)


def _write(model: TwoTower, path: Path) -> None:
    """Under a temporary name, then renamed. Other processes map the old file or the complete new one."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (model.config.num_items, model.config.embedding_dim)}
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file, torch.inference_mode():
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in model.candidate_chunks():
                file.write(chunk.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
