"""Small prepared data sets for the tests of training."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, MANIFEST_FILE
from training.jobs.train import train
from training.jobs.train_second_stage import train_second_stage
from training.models.recipe import Recipe
from training.settings import JobSettings


def job_settings(data_dir: Path, **values: object) -> JobSettings:
    return JobSettings.model_validate(
        {"dataset": "toy", "data_dir": data_dir, "seed": 1, "train_minutes": 0.1, **values}
    )


def train_model(settings: JobSettings, recipe: Recipe) -> str:
    """Both steps of `make train`; the line of the second one."""
    train(settings, recipe)
    return train_second_stage(settings)


def write_processed(
    settings: JobSettings, sequences: dict[str, list[str]], catalogue: dict[str, list[str]] | None = None
) -> None:
    """Write what `prepare` would: user -> item ids, oldest first; item id -> categories."""
    log = {user: [(item, time) for time, item in enumerate(items)] for user, items in sequences.items()}
    write_log(settings, log, catalogue)


def write_log(
    settings: JobSettings, log: dict[str, list[tuple[str, int]]], catalogue: dict[str, list[str]] | None = None
) -> None:
    """The same with times: user -> items and when they were touched."""
    catalogue = catalogue or {item: [] for touched in log.values() for item, _ in touched}
    settings.processed_dir.mkdir(parents=True, exist_ok=True)
    rows = [(user, item, time) for user in sorted(log) for item, time in log[user]]
    events = pl.DataFrame(
        rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row"
    )
    events.with_columns(event=pl.lit("view")).write_parquet(settings.processed_dir / INTERACTIONS_FILE)
    items = sorted(catalogue)
    pl.DataFrame(
        {"item_id": items, "title": [f"Thing {item}" for item in items], "categories": [catalogue[i] for i in items]},
        schema={"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String)},
    ).with_columns(
        year=pl.lit(None, dtype=pl.Int32),
        price=pl.lit(None, dtype=pl.Float64),
    ).write_parquet(settings.processed_dir / CATALOGUE_FILE)
    (settings.processed_dir / MANIFEST_FILE).write_text(json.dumps({"content_hash": "c0ffee"}))


def cyclic_sequences(num_users: int, num_items: int, length: int, seed: int = 0) -> dict[str, list[str]]:
    """Everybody goes from item i to item i + 1, from a random start: popularity knows nothing of it."""
    random = np.random.default_rng(seed)
    starts = random.integers(0, num_items, num_users)
    return {
        f"u{user:04d}": [f"i{(start + step) % num_items:03d}" for step in range(length)]
        for user, start in enumerate(starts)
    }


def shared_data(name: str) -> Path:
    """A folder of the shared real data; skips the test where it is missing."""
    repository = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("TANDEM_SHARED", repository.parent / "shared")) / "data" / name
    if not folder.exists():
        pytest.skip(f"{folder} is missing; TANDEM_SHARED names the folder that holds data/{name}")
    return folder
