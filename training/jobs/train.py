"""Train the two towers on the prepared data: `python -m training.jobs.train`.

Writes `models_dir/<fingerprint>/`, whole or not at all, and the fingerprint into `models_dir/latest`. Run again it goes
on where it was interrupted; run after success with the same data and settings it does nothing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.model.files import ITEMS_FILE, TRAINING_FILE, VOCABULARY_FILE
from recsys.model.histories import save_histories
from recsys.model.two_tower import TwoTower, TwoTowerConfig, save_model
from training.atomic import atomic_directory, atomic_file, exclusive_lock
from training.datasets.sequences import (
    INTERACTIONS_FILE,
    ITEM_METADATA_FILE,
    Sequences,
    data_content_hash,
    load_sequences,
    sample_histories,
)
from training.datasets.splits import SplitKind
from training.jobs.run import run_job
from training.models.checkpoint import Progress, remove_checkpoint
from training.models.content_features import content_features
from training.models.item_table import initialise_item_table
from training.models.recipe import Recipe
from training.models.second_stage import train_second_stage
from training.models.trainer import Trainer
from training.settings import JobSettings

TRAINING_VERSION = 4
"""Raise it when a change of the code makes other weights of the same data and recipe."""
LATEST_FILE = "latest"
SECOND_STAGE_SHARE = 0.2
"""The part of the time budget that the second stage may take at most."""
MAX_SECOND_STAGE_SECONDS = 240.0
METADATA_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "categories": pl.List(pl.String()),
    "year": pl.Int32(),
    "price": pl.Float64(),
}


def train(settings: JobSettings, recipe: Recipe | None = None) -> str:
    """The job. Raises JobError where there is no prepared data, DataError where it is too little to learn from."""
    content_hash = data_content_hash(settings.processed_dir)
    sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split)
    second_stage_seconds = min(MAX_SECOND_STAGE_SECONDS, SECOND_STAGE_SHARE * settings.train_minutes * 60)
    budget_seconds = settings.train_minutes * 60 - second_stage_seconds
    recipe = recipe or Recipe(max_history=settings.max_history)
    fingerprint = training_fingerprint(content_hash, settings, recipe)
    directory = settings.models_dir / fingerprint
    with exclusive_lock(directory):
        if directory.exists():
            _point_latest_at(directory)
            return f"{directory} is already trained on this data with these settings; nothing to do"
        checkpoint_directory = settings.models_dir / f"{fingerprint}.checkpoint"
        counts = sequences.train_counts()
        _refuse_too_little(sequences, counts, settings.processed_dir / INTERACTIONS_FILE)
        torch.manual_seed(settings.seed)
        content = content_features(settings.processed_dir / ITEM_METADATA_FILE, sequences.vocabulary.item_ids)
        config = _config(recipe, sequences.num_items, content.shape[1])
        model = TwoTower(config).to("cuda" if torch.cuda.is_available() else "cpu")
        trainer = Trainer(
            model,
            sequences,
            counts,
            recipe,
            seed=settings.seed,
            budget_seconds=budget_seconds,
            checkpoint_directory=checkpoint_directory,
            exclude_seen=settings.exclude_seen,
        )
        if trainer.resume():
            print(f"train: going on after {trainer.progress.seconds:.0f} seconds of training", flush=True)
        else:
            initialise_item_table(model, sequences, content, counts, settings.seed)
        progress = trainer.run()
        print(f"train: {_how_it_went(progress)}; now the second stage", flush=True)
        with atomic_directory(directory) as partial:
            save_model(model, partial)
            sequences.vocabulary.save(partial / VOCABULARY_FILE)
            _write_items(settings.processed_dir / ITEM_METADATA_FILE, sequences, partial / ITEMS_FILE)
            save_histories(sample_histories(sequences, settings.seed), partial)
            second_stage = train_second_stage(
                partial,
                sequences,
                exclude_seen=settings.exclude_seen,
                seed=settings.seed,
                budget_seconds=second_stage_seconds,
            )
            record = {
                **_training_record(progress, recipe, settings, sequences, content_hash, fingerprint),
                "second_stage": second_stage,
            }
            (partial / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _point_latest_at(directory)
        remove_checkpoint(checkpoint_directory)
    return f"{directory}: {_how_it_went(progress)}; {second_stage['outcome']}"


def _how_it_went(progress: Progress) -> str:
    return (
        f"validation NDCG@10 {progress.best_ndcg:.4f} after {progress.history[-1]['epoch']:.1f} epochs, "
        f"{progress.seconds / 60:.1f} minutes"
    )


def training_fingerprint(content_hash: str, settings: JobSettings, recipe: Recipe) -> str:
    """12 hex digits over everything that the weights follow from."""
    inputs = {
        "content_hash": content_hash,
        "seed": settings.seed,
        "train_minutes": settings.train_minutes,
        "exclude_seen": settings.exclude_seen,
        "recipe": recipe.model_dump(),
        "version": TRAINING_VERSION,
    }
    if settings.split != SplitKind.LEAVE_ONE_OUT:  # whose models are older than the choice, and keep their names
        inputs["split"] = settings.split
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def _refuse_too_little(sequences: Sequences, counts: NDArray[np.int64], file: Path) -> None:
    if sequences.num_users < 2:
        raise DataError("it holds fewer than 2 users; there is nothing to learn from", file=file)
    if np.count_nonzero(counts) < 2:
        raise DataError("it holds fewer than 2 items to train on; there is nothing to learn from", file=file)
    if len(sequences.validated_users) == 0:
        raise DataError("no user has 3 interactions; a model could be neither validated nor tested", file=file)
    if sequences.train_lengths.max() < 2:
        raise DataError("no user has 2 interactions left to train on beside the held-out ones", file=file)


def _config(recipe: Recipe, num_items: int, num_content_features: int) -> TwoTowerConfig:
    return TwoTowerConfig(
        num_items=num_items,
        num_content_features=num_content_features,
        embedding_dim=recipe.embedding_dim,
        num_layers=recipe.num_layers,
        num_heads=recipe.num_heads,
        feed_forward_factor=recipe.feed_forward_factor,
        dropout=recipe.dropout,
        max_history=recipe.max_history,
    )


def _training_record(
    progress: Progress,
    recipe: Recipe,
    settings: JobSettings,
    sequences: Sequences,
    content_hash: str,
    fingerprint: str,
) -> dict[str, Any]:
    """Flat parameters and metrics, and one flat record per round."""
    best = progress.history[progress.best_round]
    return {
        "fingerprint": fingerprint,
        "training_version": TRAINING_VERSION,
        "dataset": settings.dataset,
        "data_content_hash": content_hash,
        "seed": settings.seed,
        "train_minutes": settings.train_minutes,
        "exclude_seen": settings.exclude_seen,
        "split": settings.split,
        "params": recipe.model_dump(),
        "num_users": sequences.num_users,
        "num_items": sequences.num_items,
        "num_interactions": len(sequences.items),
        "seconds": round(progress.seconds, 1),
        "steps": progress.step,
        "epochs": progress.history[-1]["epoch"],
        "ended_early": progress.cooldown_from is not None,
        "best_round": progress.best_round,
        "metrics": {name: value for name, value in best.items() if name.startswith("validation_")},
        "history": progress.history,
    }


def _write_items(items_parquet: Path, sequences: Sequences, path: Path) -> None:
    """One JSON object per line, line n for item_index n."""
    order = pl.DataFrame({"item_id": sequences.vocabulary.item_ids}, schema={"item_id": pl.String})
    items = order.join(pl.read_parquet(items_parquet), on="item_id", how="left", maintain_order="left")
    columns = [
        (pl.col(name) if name in items.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in METADATA_SCHEMA.items()
    ]
    items.select(columns).with_columns(pl.col("categories").fill_null([])).write_ndjson(path)


def _point_latest_at(directory: Path) -> None:
    with atomic_file(directory.parent / LATEST_FILE) as path:
        path.write_text(directory.name + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_job("train", train)
