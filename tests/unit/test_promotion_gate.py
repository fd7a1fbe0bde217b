"""The gate of promote: a candidate and the champion on the same held-out items, without losses that add up."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.errors import JobError, ReleaseNotLoaded
from recsys.model.files import TRAINING_FILE, VOCABULARY_FILE
from recsys.model.release_manifest import ReleaseManifest
from recsys.model.two_tower import load_model
from recsys.model.vocabulary import Vocabulary
from tests import toy
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import load_sequences
from training.evaluation.held_out import gains_on, load_held_out
from training.evaluation.metrics import ndcg_gains
from training.evaluation.ranking import TwoTowerScorer, rank_held_out
from training.fingerprints import learning_data_hash
from training.models.content_features import content_features
from training.promotion import gate
from training.promotion.gate import GATE_TAG, GateRecord, Opponent, compare, pass_gate, what_it_saw
from training.promotion.rolled_back import ROLLED_BACK_TAG, RolledBack
from training.release_manifest import describe_release
from training.settings import JobSettings

MARGIN = 0.05
USERS = 4_000


class FolderRegistry:
    """The part of the registry that the gate uses, on folders with the files of releases."""

    def __init__(self) -> None:
        self.folders = {}
        self.tags = {}

    def add(self, version: int, folder: Path, **tags: Any) -> None:
        self.folders[version] = folder
        self.tags[version] = tags

    def tags_of(self, version: int) -> dict[str, str]:
        if version not in self.tags:
            raise ReleaseNotLoaded(f"no version {version}")
        return self.tags[version]

    def manifest_of(self, version: int) -> ReleaseManifest:
        return ReleaseManifest.read(self.folders[version])

    def fetch_validation_fit(self, version: int, destination: Path) -> None:
        shutil.copytree(self.folders[version], destination, dirs_exist_ok=True)


@pytest.fixture
def registry() -> FolderRegistry:
    return FolderRegistry()


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    settings = toy.job_settings(tmp_path)
    toy.write_prepared(settings)
    return settings


def data_hash(settings: JobSettings) -> str:
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    content = content_features(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    return learning_data_hash(settings.processed_dir, content)


def trained(settings: JobSettings, name: str, *, seed: int = 1, on: Any = None) -> Any:
    """A release that was trained on the prepared data, or on the data with the hash `on`."""
    directory = toy.write_model(settings, name, seed=seed)
    record = json.loads((directory / TRAINING_FILE).read_text())
    record["data_content_hash"] = data_hash(settings) if on is None else on
    (directory / TRAINING_FILE).write_text(json.dumps(record))
    describe_release(directory)
    return directory


# --- on the same held-out items ---------------------------------------------------------------------------------------


def test_a_release_has_the_gains_that_evaluate_measures(settings: JobSettings) -> None:
    directory = trained(settings, "first")
    held_out = load_held_out(settings, data_hash(settings), USERS)
    assert len(held_out.examples) == len(toy.USERS)
    own = Vocabulary.load(directory / VOCABULARY_FILE)
    names = held_out.vocabulary
    examples = [
        (np.array(own.indices(map(names.item_id, history)), np.int32), own.index_of(names.item_id(target)))
        for history, target in held_out.examples
    ]
    ranks = rank_held_out(TwoTowerScorer(load_model(directory)), examples).ranks
    assert np.array_equal(gains_on(held_out, directory), ndcg_gains(ranks, 10))
    assert gains_on(held_out, directory).mean() > 0


def test_a_held_out_item_that_a_release_does_not_know_is_a_miss(settings: JobSettings) -> None:
    directory = trained(settings, "old")
    held_out = load_held_out(settings, data_hash(settings), USERS)
    known = gains_on(held_out, directory)
    hit = int(known.argmax())
    target = held_out.vocabulary.item_id(held_out.examples[hit][1])
    item_ids = [f"gone-{target}" if each == target else each for each in toy.ITEM_IDS]
    Vocabulary(item_ids).save(directory / VOCABULARY_FILE)
    describe_release(directory)
    assert known[hit] > 0
    assert gains_on(held_out, directory)[hit] == 0


def test_data_that_a_release_was_not_trained_on_is_not_held_out_from_it(settings: JobSettings) -> None:
    with pytest.raises(JobError, match="is not the data that it was trained on"):
        load_held_out(settings, "another hash", USERS)


def test_without_prepared_data_nothing_is_held_out(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="make data"):
        load_held_out(toy.job_settings(tmp_path), "any", USERS)


def test_a_better_number_on_other_data_does_not_help_a_worse_release(
    settings: JobSettings, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored metrics say that version 2 is better, because its data was easier. On the same users it is worse."""
    gains = dict(zip((1, 2), _gains_of_means(0.30, 0.15), strict=True))
    for version, stored in ((1, "0.2000"), (2, "0.5000")):
        registry.add(version, trained(settings, f"v{version}", seed=version), ndcg_at_10=stored)
    _measured_as(monkeypatch, registry, gains)
    with pytest.raises(JobError) as refused:
        pass_gate(registry, 2, 1, settings, MARGIN)
    assert "version 2 has NDCG@10 0.1500 and the champion, version 1, 0.3000: -0.1500 (95% interval" in str(
        refused.value
    )
    assert "on the held-out items of the same 12 users; at most 5.0% less is allowed; FORCE=1" in str(refused.value)


def test_a_worse_number_on_other_data_does_not_hurt_a_better_release(
    settings: JobSettings, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = dict(zip((1, 2), _gains_of_means(0.15, 0.30), strict=True))
    for version, stored in ((1, "0.5000"), (2, "0.2000")):
        registry.add(version, trained(settings, f"v{version}", seed=version), ndcg_at_10=stored)
    _measured_as(monkeypatch, registry, gains)
    record, line = pass_gate(registry, 2, 1, settings, MARGIN)
    assert (record.best, record.users) == (2, 12)
    assert record.measured == pytest.approx({1: 0.15, 2: 0.30})
    assert "+0.1500" in line


def test_real_releases_are_downloaded_and_measured(settings: JobSettings, registry: FolderRegistry) -> None:
    for version in (1, 2):
        registry.add(version, trained(settings, f"v{version}", seed=version))
    record, line = pass_gate(registry, 2, 1, settings, 0.99)
    assert set(record.measured) == {1, 2}
    assert "the champion, version 1" in line


@pytest.mark.parametrize(
    ("champion_until", "until", "said"),
    [
        (None, None, ""),
        (toy.START + 9, None, "which learned from events until .*: it may have seen held-out items, which is in its"),
        (toy.START + 9, toy.START + 8, "it may have seen held-out items"),
        (
            toy.START + 9,
            toy.START + 100,
            "for the 6 users whose item came after what it learned from 0.3000 and 0.2000",
        ),
        (toy.START + 90, toy.START + 100, "with no held-out item from after what it learned from"),
    ],
)
def test_a_comparison_says_what_the_champion_had_seen(
    champion_until: int | None, until: int | None, said: str, settings: JobSettings
) -> None:
    """User n of the toy shop has 4 + n items, one per second."""
    base = ReleaseManifest.read(trained(settings, "any"))
    champion, candidate = (
        base.model_copy(update={"events_until": each and datetime.fromtimestamp(each, UTC).isoformat()})
        for each in (champion_until, until)
    )
    held_out = load_held_out(settings, data_hash(settings), USERS)
    ours, theirs = np.full(len(toy.USERS), 0.3), np.full(len(toy.USERS), 0.2)
    assert re.search(said, what_it_saw(champion, candidate, held_out, ours, theirs))
    assert bool(what_it_saw(champion, candidate, held_out, ours, theirs)) is bool(said)


def _gains_of_means(*means: Any) -> Any:
    """[USERS] per mean. The differences are nearly the same for all users, so they are no chance."""
    noise = np.random.default_rng(0).normal(0, 0.01, USERS)
    return [mean + (noise - noise.mean()) * mean for mean in means]


def _measured_as(monkeypatch: pytest.MonkeyPatch, registry: FolderRegistry, gains: Any) -> None:
    """Replace the measurement of releases, whose folders are those of the registry or copies of them."""
    version_of = {ReleaseManifest.read(folder).weights_hash: version for version, folder in registry.folders.items()}
    monkeypatch.setattr(
        gate, "gains_on", lambda _, directory: gains[version_of[ReleaseManifest.read(directory).weights_hash]]
    )


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "refused"), [(0.31, False), (0.30, False), (0.290, False), (0.28, True)])
def test_more_than_the_margin_is_refused(ours: float, refused: bool) -> None:
    gains = dict(zip((2, 1), _gains_of_means(ours, 0.30), strict=True))
    assert compare(2, Opponent(1, "the champion"), gains, seed=1).refused(MARGIN) is refused


def test_a_difference_that_may_be_chance_is_not_refused() -> None:
    random = np.random.default_rng(1)
    gains = {1: random.random(20), 2: random.random(20)}
    gains[2] += gains[1].mean() * 0.9 - gains[2].mean()
    comparison = compare(2, Opponent(1, "the champion"), gains, seed=1)
    assert comparison.ours < comparison.theirs * 0.95
    assert not comparison.refused(MARGIN)


def test_losses_within_the_margin_do_not_add_up(
    settings: JobSettings, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each release loses 3% against the one before. The third one would have lost 6% against the first."""
    gains = dict(zip((1, 2, 3), _gains_of_means(0.30, 0.291, 0.282), strict=True))
    for version in (1, 2, 3):
        registry.add(version, trained(settings, f"v{version}", seed=version))
    _measured_as(monkeypatch, registry, gains)
    record, _ = pass_gate(registry, 2, 1, settings, MARGIN)
    assert record.best == 1
    registry.tags[2][GATE_TAG] = record.model_dump_json()
    with pytest.raises(JobError, match=r"version 3 has .* and the best release so far, version 1, 0.3000"):
        pass_gate(registry, 3, 2, settings, MARGIN)


def test_the_best_release_is_the_one_that_is_best_today(
    settings: JobSettings, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 was the best once, and is out of date: it no longer holds version 3 back."""
    gains = dict(zip((1, 2, 3), _gains_of_means(0.10, 0.291, 0.285), strict=True))
    for version in (1, 2, 3):
        registry.add(version, trained(settings, f"v{version}", seed=version))
    registry.tags[2][GATE_TAG] = GateRecord(best=1).model_dump_json()
    _measured_as(monkeypatch, registry, gains)
    record, _ = pass_gate(registry, 3, 2, settings, MARGIN)
    assert record.best == 2


@pytest.mark.parametrize("fate", ["rolled back", "deleted"])
def test_a_best_release_that_was_taken_back_or_deleted_sets_no_standard(
    fate: str, settings: JobSettings, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = dict(zip((1, 2, 3), _gains_of_means(0.90, 0.291, 0.290), strict=True))
    for version in (1, 2, 3):
        registry.add(version, trained(settings, f"v{version}", seed=version))
    _measured_as(monkeypatch, registry, gains)
    registry.tags[2][GATE_TAG] = GateRecord(best=1).model_dump_json()
    if fate == "deleted":
        del registry.tags[1]
    else:
        registry.tags[1][ROLLED_BACK_TAG] = RolledBack.now("shows the wrong language").model_dump_json()
    record, _ = pass_gate(registry, 3, 2, settings, MARGIN)
    assert record.best == 2


# --- without the data -------------------------------------------------------------------------------------------------


def test_without_the_data_the_stored_metrics_count_if_both_are_of_the_same_data(
    settings: JobSettings, registry: FolderRegistry
) -> None:
    for version, stored in ((1, "0.2000"), (2, "0.1950"), (3, "0.1000")):
        registry.add(version, trained(settings, f"v{version}", seed=version, on="elsewhere"), ndcg_at_10=stored)
    record, line = pass_gate(registry, 2, 1, settings, MARGIN)
    assert record == GateRecord(best=1, measured={1: 0.2, 2: 0.195})
    assert "is not the data that it was trained on" in line
    with pytest.raises(JobError, match=r"ndcg_at_10 0\.1000 and the champion, version 1, 0\.2000, as stored"):
        pass_gate(registry, 3, 1, settings, MARGIN)


def test_without_the_data_metrics_of_other_data_are_not_compared(
    settings: JobSettings, registry: FolderRegistry
) -> None:
    registry.add(1, trained(settings, "v1", on="last week"), ndcg_at_10="0.1000")
    registry.add(2, trained(settings, "v2", seed=2, on="elsewhere"), ndcg_at_10="0.9000")
    with pytest.raises(JobError, match=r"version 2 cannot be compared with the champion, version 1: .*FORCE=1"):
        pass_gate(registry, 2, 1, settings, MARGIN)
