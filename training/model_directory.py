"""The directories of trained models, and which of them is the latest.

towers-<fingerprint>/         the two towers
second_stage-<fingerprint>/   a second stage for them; only its record if it does not help
<fingerprint>/                the validation fit: copies of both and the catalogue. It is what is measured
<fingerprint>/final/          the final fit: the same files after learning from the whole log. It is what is served
latest_towers, latest         the names of the directories that were trained last
"""

import json
from pathlib import Path
from typing import Any

from recsys.errors import JobError
from recsys.model.files import TRAINING_FILE
from training.atomic import atomic_file
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import Sequences
from training.datasets.splits import SplitKind
from training.fingerprints import learning_data_hash
from training.models.content_features import content_features
from training.settings import JobSettings

FINAL_FIT = "final"
LATEST_FILE = "latest"
LATEST_TOWERS_FILE = "latest_towers"


def towers_directory(models_dir: Path, fingerprint: str) -> Path:
    return models_dir / f"towers-{fingerprint}"


def second_stage_directory(models_dir: Path, fingerprint: str) -> Path:
    return models_dir / f"second_stage-{fingerprint}"


def latest_towers(models_dir: Path) -> Path:
    """The towers that were trained last. Raises JobError if there are none."""
    return _named_by(models_dir / LATEST_TOWERS_FILE)


def latest_model(models_dir: Path) -> Path:
    """The model that was trained last. Raises JobError if there is none."""
    return _named_by(models_dir / LATEST_FILE)


def final_fit_of(directory: Path) -> Path:
    """The final fit of the model in `directory`, which may not exist yet."""
    return directory / FINAL_FIT


def existing_final_fit(directory: Path) -> Path:
    """The final fit of the model in `directory`. Raises JobError if there is none."""
    final = final_fit_of(directory)
    if not final.is_dir():
        raise JobError(f"{directory} has no final fit; run `make final-fit` first")
    return final


def latest_to_serve(settings: JobSettings) -> Path:
    """The model that was trained last. Raises JobError if there is none, or if the split is for measuring only."""
    require_to_serve(settings)
    return latest_model(settings.models_dir)


def require_to_serve(settings: JobSettings) -> None:
    """Raise JobError if the split is for measuring only."""
    if settings.split != SplitKind.LEAVE_ONE_OUT:
        raise JobError(
            f"SPLIT={settings.split} trains models for measuring only, which never saw the end of the log; "
            f"what is served is trained with SPLIT={SplitKind.LEAVE_ONE_OUT}"
        )


def set_latest_towers(directory: Path) -> None:
    _write_name(directory, LATEST_TOWERS_FILE)


def set_latest_model(directory: Path) -> None:
    _write_name(directory, LATEST_FILE)


def read_training(directory: Path) -> dict[str, Any]:
    """The record of how a model or its towers were trained."""
    record: dict[str, Any] = json.loads((directory / TRAINING_FILE).read_text(encoding="utf-8"))
    return record


def require_trained_on(directory: Path, processed_dir: Path, sequences: Sequences) -> None:
    """Raise JobError if the towers in `directory` learned from other data than is prepared now."""
    content = content_features(processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    if read_training(directory)["data_content_hash"] != learning_data_hash(processed_dir, content):
        raise JobError(f"{directory} was trained on other data than {processed_dir}; run `make train` first")


def _named_by(latest: Path) -> Path:
    if not latest.exists():
        raise JobError(f"no trained model in {latest.parent}; run `make train` first")
    return latest.parent / latest.read_text(encoding="utf-8").strip()


def _write_name(directory: Path, file: str) -> None:
    with atomic_file(directory.parent / file) as path:
        path.write_text(directory.name + "\n", encoding="utf-8")
