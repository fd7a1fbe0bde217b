"""Fit a second stage to the latest towers and assemble the model: `python -m training.jobs.train_second_stage`.

Writes `models_dir/<fingerprint>/`, complete or not at all, and its name into `models_dir/latest`. An interrupted run
starts over. Nothing is fitted again if towers, parameters and the second stage's data are unchanged.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from recsys.model.files import ITEMS_FILE, TRAINING_FILE
from recsys.model.release_manifest import RELEASE_FILES, SECOND_STAGE_FILES
from training.atomic import atomic_directory, exclusive_lock
from training.datasets.catalogue import read_catalogue
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import Sequences, load_sequences
from training.fingerprints import release_fingerprint, second_stage_fingerprint
from training.job import for_each_cut, run_job
from training.model_directory import (
    latest_towers,
    read_training,
    require_trained_on,
    second_stage_directory,
    set_latest_model,
)
from training.models.second_stage import fit_second_stage
from training.settings import JobSettings

SECOND_STAGE_RECORD = "second_stage.json"
"""How the second stage was fitted, and whether it is part of the model."""


def train_second_stage(settings: JobSettings) -> str:
    """The job. Raises JobError if no towers are trained, or if they were trained on other data than is prepared."""
    sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split, settings.shares)
    towers = latest_towers(settings.models_dir)
    require_trained_on(towers, settings.processed_dir, sequences)
    catalogue = read_catalogue(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    second_stage = _fit_unless_done(towers, sequences, catalogue, settings)
    return _assemble(towers, second_stage, catalogue, settings.models_dir)


def _fit_unless_done(towers: Path, sequences: Sequences, catalogue: pl.DataFrame, settings: JobSettings) -> Path:
    """The directory of the second stage."""
    training = read_training(towers)
    fingerprint = second_stage_fingerprint(training["fingerprint"], catalogue, settings)
    directory = second_stage_directory(settings.models_dir, fingerprint)
    with exclusive_lock(directory):
        if directory.exists():
            return directory
        with atomic_directory(directory) as partial:
            fitted = fit_second_stage(
                towers,
                sequences,
                catalogue,
                partial,
                exclude_seen=training["exclude_seen"],
                seed=settings.seed,
                budget_seconds=settings.second_stage_seconds,
            )
            record = {"fingerprint": fingerprint, "seed": settings.seed, **fitted}
            _write_json(partial / SECOND_STAGE_RECORD, record)
    return directory


def _assemble(towers: Path, second_stage: Path, catalogue: pl.DataFrame, models_dir: Path) -> str:
    """Copy both stages and the catalogue into the model's directory, unless that was done; one line about it."""
    training = read_training(towers)
    fitted: dict[str, Any] = json.loads((second_stage / SECOND_STAGE_RECORD).read_text(encoding="utf-8"))
    items = catalogue.write_ndjson().encode()
    fingerprint = release_fingerprint(training["fingerprint"], fitted["fingerprint"], items)
    directory = models_dir / fingerprint
    with exclusive_lock(directory):
        if directory.exists():
            set_latest_model(directory)
            return f"{directory} is already trained on this data with these settings; nothing to do"
        with atomic_directory(directory) as partial:
            (partial / ITEMS_FILE).write_bytes(items)
            for name in RELEASE_FILES:
                if name != ITEMS_FILE:
                    shutil.copyfile(towers / name, partial / name)
            if fitted["shipped"]:
                for name in SECOND_STAGE_FILES:
                    shutil.copyfile(second_stage / name, partial / name)
            record = {
                **training,
                "fingerprint": fingerprint,
                "towers_fingerprint": training["fingerprint"],
                "second_stage_fingerprint": fitted["fingerprint"],
                "second_stage": fitted,
            }
            _write_json(partial / TRAINING_FILE, record)
        set_latest_model(directory)
    return f"{directory}: {fitted['outcome']}"


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_job("second-stage", for_each_cut(train_second_stage))
