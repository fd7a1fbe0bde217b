"""The features of the second stage: computed from hand-made tables, and equal in training and serving."""

import gc
import weakref
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recsys.contracts.base import MAX_HISTORY
from recsys.errors import ReleaseDamaged
from recsys.model.candidate_sources import CandidateSources
from recsys.model.files import ITEMS_FILE, RANKING_TABLES_FILE, SECOND_STAGE_FILE
from recsys.model.item_activity import ACTIVITY_NAMES, unknown_activity
from recsys.model.neighbours import Indices, Neighbours
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.ranking_features import NEVER, Features, RankingFeatures
from recsys.model.ranking_tables import RankingTables
from recsys.model.release import Release
from recsys.model.second_stage import SecondStage
from recsys.model.sources import Source
from recsys.model.two_tower import load_model
from tests import toy
from tests.unit.reference_ranking_features import ReferenceFeatures
from training.datasets.sequences import load_sequences
from training.datasets.walk_forward import past_examples
from training.models.activity_log import ActivityLog
from training.models.candidate_retrieval import CandidateRetrieval
from training.models.exact_retrieval import ExactRetrieval
from training.models.moments import Moments
from training.models.ranking_tables import ranking_tables, strongest
from training.models.second_stage import fit_second_stage, label
from training.release_manifest import describe_release

MATRIX = np.array([[0, 0, 0, 0], [0, 0, 5, -7], [0, 1, 0, 2], [0, 3, 0, 0]], dtype=np.float32)
PARTS = ("items", "weights")


def test_neighbours_are_the_strongest_of_a_row() -> None:
    neighbours = strongest(MATRIX)
    assert neighbours.items.tolist() == [[0, 0], [3, 2], [3, 1], [1, 0]]
    assert neighbours.weights.tolist() == [[0, 0], [-7, 5], [2, 1], [3, 0]]


def test_large_catalogues_keep_few_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.models.ranking_tables.MAX_ENTRIES", 3)
    neighbours = strongest(MATRIX)
    assert neighbours.items.tolist() == [[0], [3], [3], [1]]
    assert neighbours.weights.tolist() == [[0], [-7], [2], [3]]


def by_name(features: RankingFeatures, history: Indices, candidates: Indices, query: Features) -> dict[str, Features]:
    """[candidates] by name."""
    return dict(zip(FEATURE_NAMES, features.matrix(history, candidates, query).T, strict=True))


def toy_features(num_items: int = 3) -> RankingFeatures:
    matrix = strongest(MATRIX)
    nothing = Neighbours(np.zeros((num_items + 1, 1), np.int32), np.zeros((num_items + 1, 1), np.float32))
    one_per_item = np.arange(num_items + 1, dtype=np.float32)
    unknown = np.full(num_items + 1, np.nan, dtype=np.float32)
    per_item = dict.fromkeys(
        ("popularity", "mean_log_position", "mean_share_before", "mean_log_history_length"), one_per_item
    )
    tables = RankingTables(
        *(matrix, matrix, nothing, nothing, matrix),
        **per_item,
        year=one_per_item + 2000,
        log_price=unknown,
        category=np.zeros(num_items + 1, dtype=np.int32),
        activity=unknown_activity(num_items),
        sources=np.zeros(len(Source), dtype=np.int64),
    )
    embeddings = np.array([[1, 0, 0.5], [0, 1, 0.25], [1, 1, 0]], dtype=np.float32)
    content = np.array([[0, 0], [1, 0], [1, 0], [0, 1]], dtype=np.uint8)
    return RankingFeatures(tables, embeddings, content)


def test_hand_computed_features() -> None:
    history, candidates = np.array([3, 1, 2]), np.array([1, 3])
    features = by_name(toy_features(), history, candidates, np.array([2, 1, 1], dtype=np.float32))
    expected = {
        "tower_score": [2.5, 3.0],
        "tower_behind_best": [-0.5, 0.0],
        "tower_rank": [1, 0],
        "tower_bias": [0.5, 0.0],
        "popularity": [1, 3],
        "history_length": [3, 3],
        "times_seen": [1, 1],
        "steps_since_seen": [1, 2],
        "next_items_0": [1, 2],
        "next_items_1": [0, -7],
        "next_items_2": [3, 0],
        "next_items_0.8": [1 + 0.64 * 3, 2 - 0.8 * 7],
        "next_items_strongest": [3, 2],
        "next_items_strongest_age": [2, 0],
        "next_items_count": [2, 1],
        "session_0": [0, 0],
        "session_strongest_age": [NEVER, NEVER],
        "ease_1.0": [4, -5],
        "similarity_0": [0, 2**-0.5],
        "similarity_highest": [1, 1],
        "content_0": [1, 0],
        "year_distance_0": [1, 1],
        "year_distance": [1, 1],
    }
    for name, values in expected.items():
        assert features[name].tolist() == pytest.approx(values), name
    assert np.isnan(features["price_distance"]).all()
    log_probability = features["tower_log_probability"]
    assert np.exp(log_probability).sum() == pytest.approx(1)
    assert log_probability[1] - log_probability[0] == pytest.approx(0.5)


def test_hand_computed_features_of_categories() -> None:
    """Items 1 and 2 are in category 1, and item 3 in none. Of the events with category 1, item 2 has three quarters."""
    features = toy_features()
    features._tables.category[:] = [0, 1, 1, 0]
    activity = unknown_activity(3)
    activity[1:, 0] = np.log1p([1, 3, 5])
    now = features.at(activity)
    found = by_name(now, np.array([2, 3, 1]), np.array([2, 3]), np.zeros(3, np.float32))
    assert found["share_in_category"].tolist() == pytest.approx([0.75, 0])
    assert found["category_1.0"].tolist() == pytest.approx([2 / 3, 0])
    assert found["category_0.8"].tolist() == pytest.approx([(1 + 0.64) / (1 + 0.8 + 0.64), 0])
    assert found["category_and_item_1.0"].tolist() == pytest.approx([0.5, 0])
    without_times = by_name(features, np.array([2]), np.array([1]), np.zeros(3, np.float32))
    assert without_times["share_in_category"].tolist() == [0]
    assert without_times["category_1.0"].tolist() == [1]


def test_stored_names_do_not_change(tmp_path: Path) -> None:
    """Existing releases contain these tensors, and their trees these features, in this order."""
    tables = toy_features()._tables
    tables.save(tmp_path)
    stored = load_file(tmp_path / RANKING_TABLES_FILE)
    matrices = [
        f"{name}.{part}" for name in ("next_items", "followers", "session", "preceded", "ease") for part in PARTS
    ]
    per_item = ["popularity", "usual_step", "usual_share", "audience", "year", "log_price"]
    assert set(stored) == {*matrices, *per_item, "category", "activity", "sources"}
    for name, changed in {"usual_step": 1.0, "usual_share": 2.0, "audience": 3.0}.items():
        stored[name] = np.full_like(stored[name], changed)
    save_file(stored, tmp_path / RANKING_TABLES_FILE)
    loaded = RankingTables.load(tmp_path)
    assert (loaded.mean_log_position == 1.0).all()
    assert (loaded.mean_share_before == 2.0).all()
    assert (loaded.mean_log_history_length == 3.0).all()
    features = RankingFeatures(loaded, toy_features()._embeddings, toy_features()._content)
    assert FEATURE_NAMES[5:10] == ["popularity", "usual_step", "usual_share", "audience", "year"]
    assert FEATURE_NAMES[10:15] == ["log_share_7", "log_share_30", "trend", "log_age", "history_length"]
    found = by_name(features, np.array([1]), np.array([2]), np.zeros(3, np.float32))
    assert [found[name][0] for name in ("usual_step", "usual_share", "audience")] == [1.0, 2.0, 3.0]


def test_the_order_of_candidates_does_not_matter() -> None:
    features, history, query = toy_features(), np.array([2, 1]), np.array([1, 2, 1], dtype=np.float32)
    one_way = features.matrix(history, np.array([1, 2, 3]), query)
    other_way = features.matrix(history, np.array([3, 1, 2]), query)
    np.testing.assert_allclose(other_way, one_way[[2, 0, 1]], rtol=1e-6)


def test_an_item_table_without_content_has_the_same_features() -> None:
    bare = toy_features()
    bare._content, bare._content_weights = np.zeros((4, 0), np.uint8), np.zeros(0, np.float32)
    features = by_name(bare, np.array([1]), np.array([2, 3]), np.zeros(3, np.float32))
    assert features["content_0"].tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_the_compiled_features_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_items, steps = int(rng.integers(2, 400)), int(rng.integers(1, MAX_HISTORY + 1))
    tables, embeddings, content = random_tables(num_items, rng)
    history = rng.integers(1, num_items + 1, steps)
    candidates = rng.permutation(num_items)[: rng.integers(1, 201)] + 1
    query = rng.normal(size=embeddings.shape[1]).astype(np.float32)
    expected = ReferenceFeatures(tables, embeddings, content).of(history, candidates, query)
    assert list(expected) == FEATURE_NAMES
    found = by_name(RankingFeatures(tables, embeddings, content), history, candidates, query)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def random_tables(num_items: int, rng: np.random.Generator) -> tuple[RankingTables, Features, NDArray[np.uint8]]:
    """Tables, candidate embeddings and content of items of which some have no neighbours, years or content."""

    def neighbours(width: int) -> Neighbours:
        items = np.zeros((num_items + 1, width), np.int32)
        for item in range(1, num_items + 1):
            found = rng.permutation(num_items)[: rng.integers(0, width + 1)] + 1
            items[item, : len(found)] = found
        return Neighbours(items, np.where(items > 0, rng.random(items.shape), 0).astype(np.float32))

    def per_item() -> Features:
        return rng.random(num_items + 1, dtype=np.float32)

    year, log_price = 2000 + 20 * per_item(), per_item()
    year[rng.random(num_items + 1) < 0.2] = log_price[rng.random(num_items + 1) < 0.2] = np.nan
    matrices = [neighbours(width) for width in (30, 40, 50, 20, 60)]
    activity = rng.random((num_items + 1, len(ACTIVITY_NAMES)), dtype=np.float32)
    category = rng.integers(0, 8, num_items + 1).astype(np.int32)
    category[0] = 0
    sources = np.zeros(len(Source), dtype=np.int64)
    tables = RankingTables(*matrices, *(per_item() for _ in range(4)), year, log_price, category, activity, sources)
    content = (rng.random((num_items + 1, 40)) < 0.1).astype(np.uint8)
    return tables, rng.normal(size=(num_items, 17)).astype(np.float32), content


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy shop with a second stage, even if it does not improve ranking."""
    monkeypatch.setattr("training.models.second_stage.MIN_USERS", 1)
    monkeypatch.setattr("training.models.second_stage._helps", lambda *_: True)
    settings = toy.job_settings(tmp_path)
    toy.write_prepared(settings)
    directory = toy.write_model(settings, "first", seed=1)
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    sequences.vocabulary.save(directory / "vocabulary.json")
    catalogue = pl.read_ndjson(directory / ITEMS_FILE)
    fit_second_stage(directory, sequences, catalogue, directory, exclude_seen=True, seed=1, budget_seconds=20)
    return directory


def test_training_and_serving_compute_the_same_numbers(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares the features of a training example with those that a release computes for a request."""
    settings = toy.job_settings(tmp_path)
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    model = load_model(directory)
    towers = ExactRetrieval(model, exclude_seen=True, num_candidates=1000)
    activity = ActivityLog(sequences)
    tables = ranking_tables(sequences, pl.read_ndjson(directory / ITEMS_FILE), activity.as_of(activity.end))
    trained_on = RankingFeatures(tables, towers.candidate_embeddings, model.content.numpy())
    retrieval = CandidateRetrieval(towers, CandidateSources(tables, exclude_seen=True), max_history=200)
    examples = past_examples(sequences, seed=1, most=1000)
    labelled = label(examples, retrieval, trained_on, Moments(activity, examples), until=torch.inf)

    served: list[np.ndarray] = []

    def record(self: SecondStage, history: np.ndarray, candidates: np.ndarray, query: np.ndarray) -> np.ndarray:
        served.append(self._features.matrix(history, candidates, query))
        return np.zeros(len(candidates))

    monkeypatch.setattr(SecondStage, "score", record)
    describe_release(directory)
    release = Release.load(1, directory)
    item_id = release.vocabulary.item_id
    _, retrieved = retrieval.search([example.history for example in examples])
    for example, found in zip(examples, retrieved, strict=True):
        if example.target in found.items:
            release.rank([item_id(int(i)) for i in example.history], [item_id(int(i)) for i in found.items])
    assert len(served) == len(labelled.features) > 3
    for in_serving, in_training in zip(served, labelled.features, strict=True):
        np.testing.assert_allclose(in_serving, in_training, rtol=1e-5, atol=1e-5)


def test_a_release_with_a_second_stage_ranks_with_it(directory: Path) -> None:
    describe_release(directory)
    release = Release.load(1, directory)
    assert release.manifest.has_second_stage
    recent, candidates = toy.ITEM_IDS[:5], [*toy.ITEM_IDS[5:40], "?", toy.ITEM_IDS[5]]
    scores = release.rank(recent, candidates)
    assert scores is not None
    assert scores[-2] is None
    assert scores[-1] == scores[0]
    by_towers = release.score(release.encode(recent), candidates)
    assert scores[:-2] != by_towers[:-2]
    assert release.rank(["?"], candidates) is None


def test_a_second_stage_is_freed_with_its_release(directory: Path) -> None:
    describe_release(directory)
    gc.disable()
    try:
        release = Release.load(1, directory)
        release.rank(toy.ITEM_IDS[:5], toy.ITEM_IDS[5:40])
        stage = release._second_stage
        assert stage is not None
        parts = [weakref.ref(part) for part in (release, stage, stage._trees, stage._features._tables.popularity)]
        del release, stage
        assert [part() for part in parts] == [None, None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", [SECOND_STAGE_FILE, RANKING_TABLES_FILE])
def test_a_release_without_a_file_of_its_second_stage_is_rejected(directory: Path, name: str) -> None:
    describe_release(directory)
    (directory / name).unlink()
    with pytest.raises(ReleaseDamaged, match=name):
        Release.load(1, directory)


def test_trees_for_other_features_are_rejected(directory: Path) -> None:
    file = directory / SECOND_STAGE_FILE
    file.write_text(file.read_text().replace("tower_rank", "tower_rang"))
    describe_release(directory)
    with pytest.raises(ReleaseDamaged, match="other features"):
        Release.load(1, directory)
