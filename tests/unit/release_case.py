"""Releases of the toy shop in a registry in memory, for tests of the ranker's copies and of its watch."""

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from recsys.errors import ReleaseNotLoaded, UpstreamUnavailable
from recsys.model.memory_limit import return_freed_memory
from recsys.model.registry import SEARCH_TAG, WEIGHTS_TAG
from recsys.model.release_manifest import ReleaseManifest
from recsys.model.two_tower import TwoTower, TwoTowerConfig
from tests import toy
from training.release_manifest import describe_release

T = TypeVar("T")


class InMemoryRegistry:
    """What the ranker asks of `ModelRegistry`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.directories: dict[int, Path] = {}
        self.named: dict[str, int] = {}
        self.reachable = True
        self.bug: Exception | None = None
        self.fetched: list[int] = []
        self.tags: dict[int, dict[str, str]] = {}
        """More tags of a version."""

    def add(self, version: int, seed: int | None = None) -> Path:
        """Register a toy release."""
        seed = version if seed is None else seed
        directory = toy.write_model(toy.job_settings(self._folder), f"{version}-{seed}", seed=seed)
        describe_release(directory)
        self.directories[version] = directory
        return directory

    def aliases(self) -> dict[str, int]:
        self._require_reachable()
        return dict(self.named)

    def tags_of(self, version: int) -> dict[str, str]:
        directory = self._directory_of(version)
        weights_hash = ReleaseManifest.read(directory).weights_hash
        return {WEIGHTS_TAG: weights_hash, SEARCH_TAG: '{"hnsw_ef": null}', **self.tags.get(version, {})}

    def fetch(self, version: int, destination: Path) -> None:
        self.fetched.append(version)
        shutil.copytree(self._directory_of(version), destination, dirs_exist_ok=True)

    def _directory_of(self, version: int) -> Path:
        self._require_reachable()
        if version not in self.directories:
            raise ReleaseNotLoaded(f"MLflow: version {version} not found")
        return self.directories[version]

    def _require_reachable(self) -> None:
        if self.bug is not None:
            raise self.bug
        if not self.reachable:
            raise UpstreamUnavailable("MLflow at http://127.0.0.1:1: refused")


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def write_large_release(directory: Path, num_items: int, embedding_dim: int) -> Path:
    """A release of random weights."""
    directory.mkdir()
    config = TwoTowerConfig(num_items=num_items, num_content_features=0, embedding_dim=embedding_dim, num_layers=1)
    described = [{"item_id": f"item-{number}", "title": f"Item {number}"} for number in range(num_items)]
    toy.write_files(directory, TwoTower(config), described, [[1, 2, 3]])
    describe_release(directory)
    return directory


def in_fresh_process(work: Callable[[Path], T], folder: Path) -> T:
    """Runs `work` where no other test has left memory to reuse or to free."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, folder).result()


def unreclaimable_bytes() -> int:
    """Memory of this process that is in use and that no file backs."""
    return_freed_memory()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024
