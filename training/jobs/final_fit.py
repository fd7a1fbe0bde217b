"""Continue the latest model on the whole log, for serving: `python -m training.jobs.final_fit`.

The model that `train` leaves behind has not seen each user's last items, so that it can be measured on them. Here its
towers learn from these items too, and the second stage gets counts of all of them. The result cannot be measured
offline. Writes `models_dir/<fingerprint>/final/`, complete or not at all. An interrupted run is resumed from its last
checkpoint. What is done is not done again.
"""

import json
from pathlib import Path

import torch

from recsys.model.files import CONFIG_FILE, ITEMS_FILE, SECOND_STAGE_FILE, TRAINING_FILE, VOCABULARY_FILE
from recsys.model.histories import save_histories
from recsys.model.two_tower import TwoTower, TwoTowerConfig, load_model, save_model
from recsys.model.vocabulary import Vocabulary
from training.atomic import atomic_directory, exclusive_lock
from training.datasets.catalogue import read_catalogue
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import Sequences, load_sequences, sample_histories
from training.datasets.whole_log import whole_log
from training.job import run_job
from training.model_directory import final_fit_of, latest_to_serve, read_training, require_trained_on
from training.models.checkpoint import Progress, remove_checkpoint
from training.models.content_features import content_features
from training.models.final_tables import write_final_tables
from training.models.recipe import FINAL_SHARE, Recipe
from training.models.trainer import Trainer
from training.models.warm_start import StartingTowers, start_from
from training.settings import JobSettings


def final_fit(settings: JobSettings) -> str:
    """The job. Raises JobError if no model is trained, if it was trained on other data than is prepared, or if the
    split is for measuring only.
    """
    validated = latest_to_serve(settings)
    directory = final_fit_of(validated)
    with exclusive_lock(directory):
        if directory.exists():
            return f"{validated.name} already has its final fit; nothing to do"
        held_out = load_sequences(settings.processed_dir, settings.models_dir)
        require_trained_on(validated, settings.processed_dir, held_out)
        sequences = whole_log(held_out)
        checkpoint_directory = validated.with_name(f"{validated.name}.checkpoint")
        model, progress = _towers(validated, sequences, checkpoint_directory, settings)
        catalogue = read_catalogue(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
        with atomic_directory(directory) as partial:
            save_model(model, partial)
            sequences.vocabulary.save(partial / VOCABULARY_FILE)
            save_histories(sample_histories(sequences, settings.seed), partial)
            (partial / ITEMS_FILE).write_bytes(catalogue.write_ndjson().encode())
            if (validated / SECOND_STAGE_FILE).exists():
                write_final_tables(validated, sequences, catalogue, partial)
            record = {"steps": progress.step, "seconds": round(progress.seconds, 1), "history": progress.history}
            (partial / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        remove_checkpoint(checkpoint_directory)
    more = len(sequences.items) - int(held_out.train_lengths.sum())
    return f"{directory}: learned from {more:,} more interactions in {progress.seconds:.0f} seconds"


def _towers(
    validated: Path, sequences: Sequences, checkpoint_directory: Path, settings: JobSettings
) -> tuple[TwoTower, Progress]:
    training = read_training(validated)
    recipe = Recipe.model_validate(training["params"])
    content = content_features(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    counts = sequences.train_counts()
    torch.manual_seed(settings.seed)
    model = TwoTower(TwoTowerConfig.load(validated / CONFIG_FILE)).to("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(
        model,
        sequences,
        counts,
        recipe.final(training["epochs"]),
        seed=settings.seed,
        budget_seconds=settings.towers_seconds * FINAL_SHARE,
        checkpoint_directory=checkpoint_directory,
    )
    if not trainer.resume():
        start = StartingTowers(load_model(validated), Vocabulary.load(validated / VOCABULARY_FILE))
        start_from(model, start, sequences.vocabulary, content, counts, settings.seed)
    return model, trainer.run()


if __name__ == "__main__":
    run_job("final-fit", final_fit)
