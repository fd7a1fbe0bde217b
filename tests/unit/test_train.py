import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import DataError, JobError
from recsys.model.files import CONFIG_FILE, HISTORIES_FILE, ITEMS_FILE, TRAINING_FILE, VOCABULARY_FILE, WEIGHTS_FILE
from recsys.model.release_manifest import SECOND_STAGE_FILES
from recsys.model.two_tower import TwoTower, TwoTowerConfig, load_model
from recsys.model.vocabulary import Vocabulary
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, train_model, write_processed
from training.datasets.sequences import load_sequences
from training.fingerprints import towers_fingerprint
from training.jobs.train import train
from training.jobs.train_second_stage import train_second_stage
from training.model_directory import LATEST_TOWERS_FILE, latest_model, latest_towers
from training.models.content_features import content_features
from training.models.item_table import initialise_item_table
from training.models.recipe import Recipe
from training.models.trainer import Trainer

SMALL = Recipe(embedding_dim=32, max_history=20, steps_per_round=20, max_epochs=25, warmup_steps=10)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small gain nothing by threads, and lose much where other processes want the cores as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read_record(directory: Path) -> dict:
    return json.loads((directory / TRAINING_FILE).read_text())


def test_a_pattern_is_learnt_and_the_model_directory_is_complete(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, cyclic_sequences(num_users=300, num_items=50, length=12))
    line = train_model(settings, SMALL)
    directory, towers = latest_model(settings.models_dir), latest_towers(settings.models_dir)
    assert str(directory) in line
    record = read_record(directory)
    names = {WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE, ITEMS_FILE, HISTORIES_FILE, TRAINING_FILE}
    shipped = SECOND_STAGE_FILES if record["second_stage"]["shipped"] else ()
    assert {path.name for path in directory.iterdir()} == {*names, *shipped}
    assert not list(settings.models_dir.glob("*.checkpoint"))

    # With 50 items and no favourite among them popularity finds the next one in one of ten lists at best.
    assert record["metrics"]["validation_ndcg_at_10"] > 0.9
    assert record["data_content_hash"] == read_record(towers)["data_content_hash"]
    assert record["epochs"] <= SMALL.max_epochs + 0.1

    vocabulary, model = Vocabulary.load(directory / VOCABULARY_FILE), load_model(directory)
    metadata = [json.loads(row) for row in (directory / ITEMS_FILE).read_text().splitlines()]
    assert [row["item_id"] for row in metadata] == list(vocabulary.item_ids)
    assert set(metadata[0]) == {"item_id", "title", "categories", "year", "price"}
    history = torch.tensor([vocabulary.indices(["i010", "i011", "i012"])])
    with torch.no_grad():
        scores = (model.encode(history, torch.tensor([3])) @ model.candidate_tower().T)[0]
    scores[history[0] - 1] = -torch.inf
    assert vocabulary.item_id(int(scores.argmax()) + 1) == "i013"

    before = [(folder / WEIGHTS_FILE).stat().st_mtime_ns for folder in (directory, towers)]
    assert "nothing to do" in train(settings, SMALL)
    assert "nothing to do" in train_second_stage(settings)
    assert [(folder / WEIGHTS_FILE).stat().st_mtime_ns for folder in (directory, towers)] == before


def test_killed_and_run_again_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    recipe = SMALL.model_copy(update={"checkpoint_seconds": 0.2, "max_epochs": 40})
    table = cyclic_sequences(num_users=300, num_items=50, length=12)
    undisturbed, killed = (job_settings(tmp_path / name, train_minutes=2.0) for name in ("undisturbed", "killed"))
    for settings in (undisturbed, killed):
        write_processed(settings, table)
    code = (
        "import sys, torch; torch.set_num_threads(1); "
        "from training.models.recipe import Recipe; from training.settings import JobSettings; "
        "from training.jobs.train import train; "
        "train(JobSettings.model_validate_json(sys.argv[1]), Recipe.model_validate_json(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, killed.model_dump_json(), recipe.model_dump_json()],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while (
            not (checkpoints := list(killed.models_dir.glob("*.checkpoint/checkpoint.pt")))
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(checkpoints) == 1
    towers = killed.models_dir / checkpoints[0].parent.name.removesuffix(".checkpoint")
    assert not towers.exists()
    assert not (killed.models_dir / LATEST_TOWERS_FILE).exists()

    train(killed, recipe)
    train(undisturbed, recipe)
    assert not checkpoints[0].parent.exists()
    assert latest_towers(killed.models_dir) == towers
    histories = [read_record(settings.models_dir / towers.name)["history"] for settings in (killed, undisturbed)]
    losses = [[record["train_loss"] for record in history] for history in histories]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert [record["step"] for record in histories[0]] == [record["step"] for record in histories[1]]


def test_sampled_softmax_with_sparse_gradients_learns_the_pattern_too(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_processed(settings, cyclic_sequences(num_users=300, num_items=50, length=12))
    train(settings, SMALL.model_copy(update={"full_softmax_items": 10, "num_negatives": 20}))
    assert read_record(latest_towers(settings.models_dir))["metrics"]["validation_ndcg_at_10"] > 0.9


def test_the_budget_is_kept(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, train_minutes=0.02)
    write_processed(settings, cyclic_sequences(num_users=300, num_items=50, length=12))
    train(settings, SMALL.model_copy(update={"max_epochs": 100_000}))
    record = read_record(latest_towers(settings.models_dir))
    assert record["seconds"] < 5.0
    assert record["metrics"]


def test_an_untouched_item_is_placed_by_its_content(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    # Two tastes that never meet; new0 and new1 are in the catalogue only.
    table = {
        f"u{user:03d}": [f"{'left' if user % 2 else 'right'}{item}" for item in random.permutation(15)[:9]]
        for user in range(200)
    }
    catalogue = {f"{side}{item}": [side] for side in ("left", "right") for item in range(15)}
    settings = job_settings(tmp_path)
    write_processed(settings, table, catalogue | {"new0": ["left"], "new1": ["right"]})
    train(settings, SMALL)
    directory = latest_towers(settings.models_dir)
    vocabulary, model = Vocabulary.load(directory / VOCABULARY_FILE), load_model(directory)
    with torch.inference_mode():
        history = torch.tensor([vocabulary.indices(["left1", "left5", "left3"])])
        scores = (model.encode(history, torch.tensor([3])) @ model.candidate_tower().T)[0].tolist()
    score = dict(zip(vocabulary.item_ids, scores, strict=True))
    assert score["new0"] > score["new1"] + 0.3
    assert score["new0"] > np.mean([score[f"right{item}"] for item in range(15)])


def test_fingerprint_follows_what_the_weights_follow_from(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    base = towers_fingerprint("a", settings, SMALL)
    assert len(base) == 12
    assert base == towers_fingerprint("a", job_settings(tmp_path / "elsewhere"), SMALL)
    others = [
        towers_fingerprint("b", settings, SMALL),
        towers_fingerprint("a", job_settings(tmp_path, seed=2), SMALL),
        towers_fingerprint("a", job_settings(tmp_path, train_minutes=3), SMALL),
        towers_fingerprint("a", settings, Recipe()),
    ]
    assert len({base, *others}) == 5


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"ann": ["a", "b", "c", "d"]}, "fewer than 2 users"),
        ({"ann": ["a", "b", "a"], "bob": ["a", "c", "b"]}, "fewer than 2 items"),
        ({"ann": ["a", "b"], "bob": ["b", "a"]}, "no user has 3"),
        ({"ann": ["a", "b", "c"], "bob": ["b", "a", "c"]}, "no user has 2 interactions left"),
    ],
)
def test_too_little_data_is_refused_in_a_sentence(tmp_path: Path, table: dict[str, list[str]], reason: str) -> None:
    settings = job_settings(tmp_path)
    write_processed(settings, table)
    with pytest.raises(DataError, match=reason):
        train(settings, SMALL)
    assert not (settings.models_dir / LATEST_TOWERS_FILE).exists()


def test_without_prepared_data_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="make data"):
        train(job_settings(tmp_path))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    write_processed(settings, cyclic_sequences(num_users=30, num_items=20, length=8))
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    counts = sequences.train_counts()
    content = content_features(settings.processed_dir / "items.parquet", sequences.vocabulary.item_ids)
    model = TwoTower(TwoTowerConfig(num_items=20, num_content_features=content.shape[1], embedding_dim=32))
    initialise_item_table(model, sequences, content, counts, seed=1)
    with torch.no_grad():
        model.item_embedding.weight.fill_(torch.nan)
    trainer = Trainer(
        model, sequences, counts, SMALL, seed=1, budget_seconds=5, checkpoint_directory=tmp_path / "checkpoint"
    )
    with pytest.raises(JobError, match="the loss is nan at step 0"):
        trainer.run()
