"""The ranker's copies of releases: complete or absent, shared between replicas, and refused if memory is short."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from recsys.errors import ReleaseDamaged, ReleaseTooLarge, UpstreamUnavailable
from recsys.model.candidate_file import CANDIDATES_FILE
from recsys.model.files import WEIGHTS_FILE
from recsys.model.local_releases import LOCKS, CopyInUse, LocalReleases
from recsys.model.memory_limit import MemoryLeft
from tests import toy
from tests.unit.release_case import InMemoryRegistry, damage, in_fresh_process, unreclaimable_bytes, write_large_release


@pytest.fixture
def registry(tmp_path: Path) -> InMemoryRegistry:
    registry = InMemoryRegistry(tmp_path / "registry")
    registry.add(1)
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
def releases(registry: InMemoryRegistry, folder: Path) -> LocalReleases:
    return LocalReleases(folder, registry)  # type: ignore[arg-type]


def lock_of(folder: Path, version: int) -> FileLock:
    return FileLock(folder / "locks" / f"{version % LOCKS}.lock")


def test_a_copy_serves_while_the_registry_is_unavailable(registry: InMemoryRegistry, releases: LocalReleases) -> None:
    releases.load(1)
    registry.reachable = False
    assert releases.load(1).manifest.weights_hash
    with pytest.raises(UpstreamUnavailable):
        releases.load(2)


def test_a_copy_serves_while_the_registry_is_empty(registry: InMemoryRegistry, releases: LocalReleases) -> None:
    releases.load(1)
    registry.directories.clear()
    assert releases.load(1).version == 1


def test_a_copy_of_other_weights_is_replaced(registry: InMemoryRegistry, releases: LocalReleases) -> None:
    before = releases.load(1)
    registry.add(1, seed=7)
    after = releases.load(1)
    assert after.manifest.weights_hash != before.manifest.weights_hash
    assert (after.candidate_embeddings != before.candidate_embeddings).any()


def test_a_damaged_copy_is_fetched_again(registry: InMemoryRegistry, releases: LocalReleases, folder: Path) -> None:
    releases.load(1)
    damage(folder / "1" / WEIGHTS_FILE)
    releases.load(1)
    assert registry.fetched == [1, 1]


def test_a_release_that_arrives_damaged_never_appears(
    registry: InMemoryRegistry, releases: LocalReleases, folder: Path
) -> None:
    damage(registry.directories[1] / WEIGHTS_FILE)
    with pytest.raises(ReleaseDamaged, match=f"{folder}/1/{WEIGHTS_FILE} has the hash"):
        releases.load(1)
    assert [path.name for path in folder.iterdir()] == ["locks"]


def test_the_candidate_embeddings_are_computed_once(releases: LocalReleases, folder: Path) -> None:
    computed = releases.load(1).candidate_embeddings
    written = (folder / "1" / CANDIDATES_FILE).stat()
    again = releases.load(1).candidate_embeddings
    assert (folder / "1" / CANDIDATES_FILE).stat().st_mtime_ns == written.st_mtime_ns
    assert (again == computed).all()
    assert not again.flags.owndata


@pytest.mark.parametrize("content", [b"", b"no array", None], ids=["empty", "no array", "of other weights"])
def test_a_wrong_file_of_candidate_embeddings_is_replaced(
    registry: InMemoryRegistry, releases: LocalReleases, folder: Path, tmp_path: Path, content: bytes | None
) -> None:
    expected = releases.load(1).candidate_embeddings.copy()
    if content is None:
        registry.add(2)
        releases.load(2)
        content = (folder / "2" / CANDIDATES_FILE).read_bytes()
    (folder / "1" / CANDIDATES_FILE).unlink()  # a loaded release maps the old file
    (folder / "1" / CANDIDATES_FILE).write_bytes(content)
    assert (releases.load(1).candidate_embeddings == expected).all()


def test_a_loaded_release_serves_after_its_copy_is_deleted(releases: LocalReleases, folder: Path) -> None:
    release = releases.load(1)
    shutil.rmtree(folder / "1")
    assert release.rank(toy.ITEM_IDS[:3], toy.ITEM_IDS)


# --- several replicas with one folder ---------------------------------------------------------------------------------


def test_a_copy_that_another_process_works_on_is_left_alone(
    registry: InMemoryRegistry, releases: LocalReleases, folder: Path
) -> None:
    releases.load(1)
    registry.add(2)
    with lock_of(folder, 1):
        with pytest.raises(CopyInUse, match="release 1"):
            releases.load(1)
        assert releases.load(2).version == 2
    assert releases.load(1).version == 1


def test_pruning_skips_a_copy_that_another_process_works_on(
    registry: InMemoryRegistry, releases: LocalReleases, folder: Path
) -> None:
    releases.load(1)
    for version in range(2, 6):
        registry.add(version)
        releases.load(version)
    with lock_of(folder, 1):
        releases.remember({"champion": 5})
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["1", "3", "4", "5", "locks"]
    releases.remember({"champion": 5}, needed=[1])
    assert (folder / "1").exists()
    releases.remember({"champion": 5})
    assert not (folder / "1").exists()


def test_what_killed_processes_left_is_removed(
    registry: InMemoryRegistry, releases: LocalReleases, folder: Path
) -> None:
    for name in ("1.0123.partial", "9.4567.partial"):
        (folder / name).mkdir(parents=True)
    releases.load(1)
    releases.remember({"champion": 1})
    assert sorted(path.name for path in folder.iterdir()) == ["1", "aliases.json", "locks"]


def test_the_number_of_lock_files_is_bounded(registry: InMemoryRegistry, releases: LocalReleases, folder: Path) -> None:
    directory = registry.directories[1]
    for version in range(1, 2 * LOCKS, 7):
        registry.directories[version] = directory
        releases.load(version)
    assert len(list((folder / "locks").iterdir())) <= LOCKS


def test_aliases_are_remembered(releases: LocalReleases, folder: Path) -> None:
    assert releases.last_aliases() == {}
    folder.mkdir()
    releases.remember({"champion": 1})
    assert releases.last_aliases() == {"champion": 1}
    (folder / "aliases.json").write_text('{"champion": ')
    assert releases.last_aliases() == {}


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_release_that_does_not_fit_is_refused_before_it_is_read(registry: InMemoryRegistry, folder: Path) -> None:
    left = [MemoryLeft(20_000_000, "of the container's 1.0 GB")]
    releases = LocalReleases(folder, registry, lambda: left[0])  # type: ignore[arg-type]
    refused = r"loading takes about 48 MB of memory, and 20 MB are left of the container's 1.0 GB"
    for _ in range(2):
        with pytest.raises(ReleaseTooLarge, match=refused) as raised:
            releases.load(1)
        assert raised.value.missing_bytes == pytest.approx(28_000_000, rel=0.01)
    assert registry.fetched == [1], "the copy stays for the next attempt"
    left[0] = MemoryLeft(80_000_000, "")
    assert releases.load(1).version == 1


def test_a_loaded_release_takes_little_memory_that_the_kernel_cannot_reclaim(tmp_path: Path) -> None:
    grown, size = in_fresh_process(memory_of_loading, tmp_path)
    assert grown < 0.8 * size  # much of it for the query tower and the vocabulary


def memory_of_loading(folder: Path) -> tuple[int, int]:
    """Bytes by which loading a large release grows this process, and bytes of its candidate embeddings."""
    registry = InMemoryRegistry(folder / "registry")
    registry.add(1)
    registry.directories[2] = write_large_release(folder / "large", num_items=40_000, embedding_dim=256)
    releases = LocalReleases(folder / "releases", registry)  # type: ignore[arg-type]
    releases.load(1)  # the first load also takes memory for libraries
    before = unreclaimable_bytes()
    release = releases.load(2)
    return unreclaimable_bytes() - before, release.candidate_embeddings.nbytes
