"""The sample of real histories in a release, used to verify its index without access to the training log."""

import json
from pathlib import Path

import numpy as np

from recsys.errors import ReleaseDamaged
from recsys.model.files import HISTORIES_FILE
from recsys.model.neighbours import Indices


def save_histories(histories: list[Indices], directory: Path) -> None:
    """Each history contains item indices, oldest first."""
    text = json.dumps([history.tolist() for history in histories], separators=(",", ":"))
    (directory / HISTORIES_FILE).write_text(text, encoding="utf-8")


def load_histories(directory: Path) -> list[Indices]:
    """Raises ReleaseDamaged if the file is missing or invalid."""
    path = directory / HISTORIES_FILE
    try:
        return [np.array(history, dtype=np.int64) for history in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseDamaged(f"{path} is not a readable sample of histories: {error}") from error
