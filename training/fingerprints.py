"""Fingerprints of towers, second stage and release: 12 hex digits over everything that each of them follows from.

Display columns of the catalogue are part of the release's fingerprint only, so changing them retrains nothing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.model.release_manifest import StartedFrom
from training.datasets.sequences import sequences_hash
from training.models.ranking_tables import ITEM_COLUMNS, table_settings
from training.models.recipe import Recipe
from training.models.second_stage import feature_settings, fitting_settings
from training.settings import JobSettings

TOWERS_VERSION = 4
"""Raise it when a change of the code leads to other weights from the same data and recipe."""
SECOND_STAGE_VERSION = 2
"""Raise it when a change of the code leads to other trees from the same data and parameters."""


def learning_data_hash(processed_dir: Path, content: NDArray[np.uint8]) -> str:
    """sha256, in hex, of what the towers learn from: the interactions and the items' content features."""
    total = hashlib.sha256(f"{sequences_hash(processed_dir)} {content.shape}".encode())
    total.update(np.ascontiguousarray(content).data)
    return total.hexdigest()


def towers_fingerprint(
    data_hash: str, settings: JobSettings, recipe: Recipe, started_from: StartedFrom | None = None
) -> str:
    start = {} if started_from is None else {"started_from": started_from.weights}
    return _fingerprint(
        {
            "data": data_hash,
            "seed": settings.seed,
            "train_minutes": settings.train_minutes,
            "exclude_seen": settings.exclude_seen,
            "split": settings.split_name,
            "recipe": recipe.model_dump(),
            "version": TOWERS_VERSION,
            **start,
        }
    )


def second_stage_fingerprint(towers: str, catalogue: pl.DataFrame, settings: JobSettings) -> str:
    """catalogue: one row per item, in the order of the item indices."""
    return _fingerprint(
        {
            "towers": towers,
            "items": hashlib.sha256(catalogue.select(ITEM_COLUMNS).write_ndjson().encode()).hexdigest(),
            "seed": settings.seed,
            "seconds": settings.second_stage_seconds,
            "features": feature_settings(),
            "tables": table_settings(),
            "fitting": fitting_settings(),
            "version": SECOND_STAGE_VERSION,
        }
    )


def release_fingerprint(towers: str, second_stage: str, items: bytes) -> str:
    """items: the content of items.jsonl, which is what the release displays."""
    return _fingerprint({"towers": towers, "second_stage": second_stage, "items": hashlib.sha256(items).hexdigest()})


def _fingerprint(inputs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
