"""A release in memory: encoding, scoring, exact search, and its serving policy."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.adapters.redis_users import History
from recsys.errors import ReleaseDamaged
from recsys.model.files import TRAINING_FILE
from recsys.model.release import NEAR_COSINE, Release
from recsys.model.release_manifest import FEATURE_SCHEMA_VERSION, ReleaseManifest
from recsys.model.two_tower import load_model
from tests import toy
from tests.unit.release_case import in_fresh_process, unreclaimable_bytes, write_large_release
from training.precomputed_lists import best_items
from training.release_manifest import describe_release

A, B, C = toy.ITEM_IDS[:3]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = toy.write_model(toy.job_settings(tmp_path), "first", seed=1)
    describe_release(directory)
    return directory


def test_consecutive_repeats_of_an_item_are_one_step(directory: Path) -> None:
    release = Release.load(1, directory)
    np.testing.assert_array_equal(release.encode([A, A, B, B, B, A]), release.encode([A, B, A]))
    # An unknown item does not separate repeats.
    np.testing.assert_array_equal(release.encode([A, "?", A, B]), release.encode([A, B]))
    assert not np.array_equal(release.encode([A, B, A]), release.encode([A, B]))


def test_the_policy_limits_the_history(directory: Path) -> None:
    manifest = ReleaseManifest.read(directory)
    policy = manifest.policy.model_copy(update={"max_history": 2})
    release = Release(1, manifest.model_copy(update={"policy": policy}), directory)
    np.testing.assert_array_equal(release.encode([C, A, B]), release.encode([A, B]))


def test_scores_of_the_model_the_release_and_the_embeddings_are_equal(directory: Path) -> None:
    release, model = Release.load(1, directory), load_model(directory)
    items = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        query = model.encode(items, torch.tensor([3]))[0]
        vectors = model.item_vectors(torch.arange(1, len(toy.ITEM_IDS) + 1))
        explicit = vectors @ query[:-1] + model.item_bias.weight[1:, 0]
    embedding = release.encode([A, B, C])
    assert embedding is not None
    np.testing.assert_allclose(release.score(embedding, toy.ITEM_IDS), explicit.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(release.candidate_embeddings @ embedding, explicit.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        release.score(release.encode_empty_history(), toy.ITEM_IDS), model.item_bias.weight[1:, 0].detach(), atol=1e-6
    )


def test_items_can_be_read_after_the_files_are_deleted(directory: Path) -> None:
    release = Release.load(1, directory)
    expected = (directory / "items.jsonl").read_bytes()
    shutil.rmtree(directory)
    assert bytes(release.item_lines) == expected


def test_the_nearest_are_searchable_and_not_excluded(directory: Path) -> None:
    release = Release.load(1, directory)
    release.searchable[4] = False
    query = release.encode_indices(np.array([1, 2, 3]))
    nearest = release.nearest(query, 200, exclude=np.array([1, 2, 3]))
    assert sorted(nearest) == [index for index in range(1, len(toy.ITEM_IDS) + 1) if index not in (1, 2, 3, 5)]
    scores = (release.candidate_embeddings @ query)[nearest - 1]
    assert (np.diff(scores) <= 0).all()
    assert release.nearest(query, 4, exclude=np.array([1, 2, 3])).tolist() == nearest[:4].tolist()


def test_near_a_disliked_item_is_what_has_a_high_cosine(directory: Path) -> None:
    release = Release.load(1, directory)
    vectors = release.candidate_embeddings[:, :-1]
    vectors[1] = vectors[0]
    cosines = vectors @ vectors[0]
    expected = [item_id for item_id, cosine in zip(toy.ITEM_IDS, cosines, strict=True) if cosine > NEAR_COSINE]
    assert {A, B} <= set(expected) < set(toy.ITEM_IDS)
    assert release.near([A], ["?", *toy.ITEM_IDS]) == expected
    assert set(release.near([C, A], toy.ITEM_IDS)) == {*expected, *release.near([C], toy.ITEM_IDS)}
    assert release.near([], toy.ITEM_IDS) == release.near(["?"], toy.ITEM_IDS) == release.near([A], ["?"]) == []


def test_a_list_leaves_out_what_is_disliked_or_near_it(directory: Path) -> None:
    release = Release.load(1, directory)
    release.candidate_embeddings[1, :-1] = release.candidate_embeddings[0, :-1]
    assert {A, B} <= set(best_items(release, History("u", [C], [C], [])))
    kept = set(best_items(release, History("u", [C], [C], [A])))
    assert not kept & {A, B, C}
    assert C in best_items(release, History("u", [C], [], []))  # it was viewed, which does not count as seen here


def test_the_meanings_of_kinds_are_part_of_the_manifest(tmp_path: Path) -> None:
    directory = toy.write_model(toy.job_settings(tmp_path), "kinds", seed=1)
    file = directory / TRAINING_FILE
    training = json.loads(file.read_text())
    file.write_text(json.dumps({**training, "event_kinds": {"no": {"negative": True}, "buy": {"weight": 3.0}}}))
    describe_release(directory)
    kinds = ReleaseManifest.read(directory).policy.event_kinds
    assert (kinds.of("no").negative, kinds.of("buy").weight, kinds.of("view").weight) == (True, 3, 1)


def test_the_error_for_an_outdated_release_says_what_to_do(directory: Path) -> None:
    file = directory / "release.json"
    now, before = FEATURE_SCHEMA_VERSION, FEATURE_SCHEMA_VERSION - 1
    file.write_text(file.read_text().replace(f'"feature_schema_version": {now}', f'"feature_schema_version": {before}'))
    with pytest.raises(ReleaseDamaged, match=rf"feature schema {before} .* serves {now}; train .* `make pipeline`"):
        Release.load(1, directory)


def test_the_policy_is_part_of_the_manifest(directory: Path) -> None:
    assert ReleaseManifest.read(directory).policy.exclude_seen is True
    file = directory / "release.json"
    file.write_text(file.read_text().replace('"exclude_seen": true', '"exclude_seen": false'))
    assert ReleaseManifest.read(directory).policy.exclude_seen is False
    file.write_text(file.read_text().replace('"max_history": 200', '"max_history": 0'))
    with pytest.raises(ReleaseDamaged, match="max_history"):
        ReleaseManifest.read(directory)


def test_a_release_is_freed_with_its_last_reference(directory: Path) -> None:
    """Without the garbage collector, so the release is in no cycle, and nothing else keeps its memory."""
    frozen = gc.get_freeze_count()
    gc.disable()
    try:
        release = Release.load(1, directory)
        release.encode([A, B])
        release.rank([A, B], [C])
        parts = [weakref.ref(release), weakref.ref(release._encoder), weakref.ref(release.candidate_embeddings)]
        del release
        assert [part() for part in parts] == [None, None, None]
    finally:
        gc.enable()
    assert gc.get_freeze_count() == frozen, "frozen objects are never collected, even if they become garbage"


def test_memory_does_not_grow_with_the_number_of_loads(tmp_path: Path) -> None:
    grown, size = in_fresh_process(memory_of_eight_loads, tmp_path)
    assert grown < 2 * size, "each load would leave its embeddings, and more"


def memory_of_eight_loads(folder: Path) -> tuple[int, int]:
    """Bytes by which loading a large release eight times more grows this process, and bytes of its embeddings."""
    directory = write_large_release(folder / "large", num_items=20_000, embedding_dim=128)

    def load(times: int) -> int:
        for _ in range(times):
            release = Release.load(1, directory)
            release.rank(["item-1"], ["item-2"])
            size = release.candidate_embeddings.nbytes
            del release
        return size

    size = load(2)
    warm = unreclaimable_bytes()
    load(8)
    return unreclaimable_bytes() - warm, size
