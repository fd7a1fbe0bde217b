"""Train the two towers on the prepared data, from nothing or from a release: `python -m training.jobs.train`.

Writes `models_dir/towers-<fingerprint>/`, complete or not at all, and its name into `models_dir/latest_towers`. An
interrupted run is resumed from its last checkpoint. Nothing is trained again if data and settings are unchanged.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.model.files import TRAINING_FILE, VOCABULARY_FILE
from recsys.model.histories import save_histories
from recsys.model.two_tower import TwoTower, TwoTowerConfig, save_model
from training.atomic import atomic_directory, exclusive_lock
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, events_until, prepared_kinds
from training.datasets.sequences import Sequences, load_sequences, sample_histories
from training.fingerprints import TOWERS_VERSION, learning_data_hash, towers_fingerprint
from training.job import for_each_cut, run_job
from training.model_directory import set_latest_towers, towers_directory
from training.models.checkpoint import Progress, remove_checkpoint
from training.models.content_features import content_features
from training.models.item_table import initialise_item_table
from training.models.recipe import WARM_SHARE, Recipe
from training.models.trainer import Trainer
from training.models.warm_start import start_from
from training.settings import JobSettings
from training.starting_point import find_start


def train(settings: JobSettings, recipe: Recipe | None = None) -> str:
    """The job. Raises JobError if no data is prepared, DataError if there is too little to learn from."""
    sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split, settings.shares)
    content = content_features(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    data_hash = learning_data_hash(settings.processed_dir, content)
    recipe = recipe or Recipe(max_history=settings.max_history)
    config = _config(recipe, sequences.num_items, content.shape[1])
    start, budget_seconds = find_start(settings, data_hash, config), settings.towers_seconds
    if start is not None:
        recipe, budget_seconds = recipe.warm(), budget_seconds * WARM_SHARE
    fingerprint = towers_fingerprint(data_hash, settings, recipe, start and start.origin)
    directory = towers_directory(settings.models_dir, fingerprint)
    with exclusive_lock(directory):
        if directory.exists():
            set_latest_towers(directory)
            return f"{directory} is already trained on this data with these settings; nothing to do"
        checkpoint_directory = directory.with_name(f"{directory.name}.checkpoint")
        counts = sequences.train_counts()
        _require_enough_data(sequences, counts, settings.processed_dir / INTERACTIONS_FILE)
        torch.manual_seed(settings.seed)
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
            print(f"train: resumed after {trainer.progress.seconds:.0f} seconds of training", flush=True)
        elif start is not None:
            start_from(model, start.towers, sequences.vocabulary, content, counts, settings.seed)
        else:
            initialise_item_table(model, sequences, content, counts, settings.seed)
        progress = trainer.run()
        with atomic_directory(directory) as partial:
            save_model(model, partial)
            sequences.vocabulary.save(partial / VOCABULARY_FILE)
            save_histories(sample_histories(sequences, settings.seed), partial)
            record = _training_record(progress, recipe, settings, sequences, data_hash, fingerprint)
            record["started_from"] = start and start.origin.model_dump()
            (partial / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        set_latest_towers(directory)
        remove_checkpoint(checkpoint_directory)
    return f"{directory}: {_summary(progress)}"


def _summary(progress: Progress) -> str:
    return (
        f"validation NDCG@10 {progress.best_ndcg:.4f} after {progress.history[-1]['epoch']:.1f} epochs, "
        f"{progress.seconds / 60:.1f} minutes"
    )


def _require_enough_data(sequences: Sequences, counts: NDArray[np.int64], file: Path) -> None:
    if sequences.num_users < 2:
        raise DataError("it holds fewer than 2 users; there is nothing to learn from", file=file)
    if np.count_nonzero(counts) < 2:
        raise DataError("it holds fewer than 2 items to train on; there is nothing to learn from", file=file)
    if len(sequences.validated_users) == 0:
        raise DataError("no user has 3 interactions; a model can be neither validated nor tested", file=file)
    if sequences.train_lengths.max() < 2:
        raise DataError("no user has 2 interactions left to train on besides the held-out ones", file=file)


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
    data_hash: str,
    fingerprint: str,
) -> dict[str, Any]:
    """Flat parameters and metrics, and one flat record per round."""
    best = progress.history[progress.best_round]
    return {
        "fingerprint": fingerprint,
        "training_version": TOWERS_VERSION,
        "dataset": settings.dataset,
        "data_content_hash": data_hash,
        "events_until": events_until(settings.processed_dir),
        "event_kinds": prepared_kinds(settings.processed_dir).model_dump(),
        "seed": settings.seed,
        "train_minutes": settings.train_minutes,
        "exclude_seen": settings.exclude_seen,
        "split": settings.split_name,
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


if __name__ == "__main__":
    run_job("train", for_each_cut(train))
