"""A release in memory: what it makes of recent items, and the policy that it is served by."""

from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ReleaseDamaged
from recsys.model.release import Release, ReleaseManifest
from tests import toy
from training.register import describe_release

A, B, C = toy.ITEM_IDS[:3]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = toy.write_model(toy.job_settings(tmp_path), "first", seed=1)
    describe_release(directory)
    return directory


def test_the_same_item_several_times_in_a_row_is_one_step(directory: Path) -> None:
    release = Release.load(1, directory)
    np.testing.assert_array_equal(release.encode([A, A, B, B, B, A]), release.encode([A, B, A]))
    # An item that nobody knows stands between nothing.
    np.testing.assert_array_equal(release.encode([A, "?", A, B]), release.encode([A, B]))
    assert not np.array_equal(release.encode([A, B, A]), release.encode([A, B]))


def test_the_policy_bounds_the_history(directory: Path) -> None:
    manifest = ReleaseManifest.read(directory)
    policy = manifest.policy.model_copy(update={"max_history": 2})
    release = Release(1, manifest.model_copy(update={"policy": policy}), directory)
    np.testing.assert_array_equal(release.encode([C, A, B]), release.encode([A, B]))


def test_the_policy_is_part_of_the_manifest(directory: Path) -> None:
    assert ReleaseManifest.read(directory).policy.exclude_seen is True
    file = directory / "release.json"
    file.write_text(file.read_text().replace('"exclude_seen": true', '"exclude_seen": false'))
    assert ReleaseManifest.read(directory).policy.exclude_seen is False
    file.write_text(file.read_text().replace('"max_history": 200', '"max_history": 0'))
    with pytest.raises(ReleaseDamaged, match="max_history"):
        ReleaseManifest.read(directory)
