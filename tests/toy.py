"""A tiny shop: what `prepare` and `train` would have left of it, with random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys.model.files import ITEMS_FILE, METRICS_FILE, TRAINING_FILE, VOCABULARY_FILE
from recsys.model.histories import save_histories
from recsys.model.two_tower import TwoTower, TwoTowerConfig, save_model
from recsys.model.vocabulary import Vocabulary
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, Manifest
from training.model_directory import LATEST_FILE, final_fit_of
from training.settings import JobSettings

ODD_ITEM = 'a/b ..?#%"\n\u00e9'
"""An item id with what URLs, paths and log lines run over."""
ITEM_IDS = [*(f"item-{number:02d}" for number in range(59)), ODD_ITEM]
TITLES = {item_id: f"The {'Red' if number % 2 else 'Blue'} Thing {number}" for number, item_id in enumerate(ITEM_IDS)}
EMBEDDING_DIM = 16
USERS = {f"user-{user}": [ITEM_IDS[(7 * user + step) % 59] for step in range(4 + user)] for user in range(12)}
"""User id -> item ids, oldest first."""
START = 1_700_000_000


def job_settings(data_dir: Path) -> JobSettings:
    return JobSettings.model_validate({"dataset": "toy", "data_dir": data_dir, "seed": 1})


def metadata_of(number: int) -> dict[str, Any]:
    return {"categories": ["Things", "Überraschung"] if number % 3 else [], "year": None, "price": number + 0.5}


def write_model(settings: JobSettings, fingerprint: str, seed: int) -> Path:
    """What `make train evaluate final-fit` leaves behind, and that it was the last. Both fits have the same weights."""
    directory = settings.models_dir / fingerprint
    torch.manual_seed(seed)
    config = TwoTowerConfig(num_items=len(ITEM_IDS), num_content_features=0, embedding_dim=EMBEDDING_DIM, num_layers=1)
    model = TwoTower(config)
    torch.nn.init.normal_(model.item_bias.weight, std=0.1)
    described = [
        {"item_id": item_id, "title": TITLES[item_id], **metadata_of(number)} for number, item_id in enumerate(ITEM_IDS)
    ]
    histories = [[ITEM_IDS.index(item) + 1 for item in items] for items in USERS.values()]
    for fit in (directory, final_fit_of(directory)):
        write_files(fit, model, described, histories)
    (settings.models_dir / LATEST_FILE).write_text(fingerprint)
    return directory


def write_files(
    directory: Path, model: TwoTower, described: list[dict[str, Any]], histories: Sequence[Sequence[int]]
) -> None:
    """The files of an evaluated model, but for its second stage."""
    directory.mkdir(parents=True, exist_ok=True)
    save_model(model, directory)
    Vocabulary(each["item_id"] for each in described).save(directory / VOCABULARY_FILE)
    save_histories([np.asarray(history) for history in histories], directory)
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in described)
    (directory / ITEMS_FILE).write_text(lines, encoding="utf-8")
    record = {"dataset": "toy", "data_content_hash": "c0ffee", "exclude_seen": True}
    training = {**record, "params": {"seed": 1}, "history": [{"loss": 1.0}]}
    (directory / TRAINING_FILE).write_text(json.dumps(training))
    (directory / METRICS_FILE).write_text(json.dumps({"ndcg_at_10": 0.5}))


def write_prepared(settings: JobSettings) -> None:
    """What `make data` leaves behind."""
    settings.processed_dir.mkdir(parents=True)
    log = [(user, item, START + at) for user, items in USERS.items() for at, item in enumerate(items)]
    interactions = pl.DataFrame(
        log, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row"
    ).with_columns(event=pl.lit("view"))
    interactions.write_parquet(settings.processed_dir / INTERACTIONS_FILE)
    items = [
        {"item_id": item_id, "title": TITLES[item_id], **metadata_of(number)} for number, item_id in enumerate(ITEM_IDS)
    ]
    schema = {"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String)}
    pl.DataFrame(items, schema={**schema, "year": pl.Int32, "price": pl.Float64}).write_parquet(
        settings.processed_dir / CATALOGUE_FILE
    )
    times = interactions["timestamp"].to_numpy()
    Manifest(
        dataset="toy",
        rows=len(log),
        users=len(USERS),
        items=interactions["item_id"].n_unique(),
        catalogue=len(ITEM_IDS),
        first_timestamp=int(np.min(times)),
        last_timestamp=int(np.max(times)),
        content_hash="c0ffee",
        warnings={},
        source={},
    ).write(settings.processed_dir)
