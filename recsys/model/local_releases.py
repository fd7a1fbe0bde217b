"""The ranker's local copies of releases, which let it start and serve while the registry is unavailable.

Replicas may share the folder. A copy is written under a temporary name and then renamed. While a process fetches, loads
or deletes a copy, it holds the lock of its version. A loaded release has its files mapped into memory, so its copy may
be deleted. That holds for local file systems, where a deleted file stays readable while it is mapped.
"""

import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from recsys.contracts.retrieval import SearchSettings
from recsys.errors import ReleaseDamaged, ReleaseNotLoaded, ReleaseTooLarge, UpstreamError
from recsys.model.memory_limit import MemoryLeft, describe_bytes, memory_left
from recsys.model.registry import SEARCH_TAG, WEIGHTS_TAG, ModelRegistry
from recsys.model.release import Release
from recsys.model.release_manifest import ReleaseManifest, verify_release
from recsys.model.release_memory import loading_bytes
from recsys.ramp import RAMP_TAG, Ramp

ALIASES_FILE = "aliases.json"
SEARCH_FILE = "search.json"
RAMPS_FILE = "ramps.json"
LOCKS_FOLDER = "locks"
VERSION_BY_ALIAS = TypeAdapter(dict[str, int])
SEARCH_BY_VERSION = TypeAdapter(dict[int, SearchSettings])
RAMP_BY_VERSION = TypeAdapter(dict[int, Ramp])
KEPT_COPIES = 2
"""Newest versions without an alias that stay on disk."""
LOCKS = 64
"""Files that versions are locked with. Versions that share one wait for each other without need."""
PARTIAL = ".partial"
"""End of the names of copies and files that are being written."""

log = structlog.get_logger()


class CopyInUse(Exception):
    """Another process is fetching, loading or deleting the copy. Try again later."""


@dataclass(frozen=True, slots=True)
class RegisteredRelease:
    weights_hash: str | None
    search: SearchSettings | None
    """None if the version's collection was never verified."""
    ramp: Ramp | None
    """None if it serves everybody as soon as it is the champion."""


class LocalReleases:
    def __init__(
        self, directory: Path, registry: ModelRegistry, left: Callable[[], MemoryLeft | None] = memory_left
    ) -> None:
        """`left` says how much memory a release may take."""
        self._directory = directory
        self._registry = registry
        self._left = left

    def aliases(self) -> dict[str, int]:
        """The registry's current aliases. Raises `UpstreamUnavailable`."""
        return self._registry.aliases()

    def last_aliases(self) -> dict[str, int]:
        """The aliases last saved by `remember`, for a start without the registry."""
        try:
            return VERSION_BY_ALIAS.validate_json((self._directory / ALIASES_FILE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return {}

    def remember(self, aliases: Mapping[str, int], needed: Collection[int] = ()) -> None:
        """Save the aliases, and delete old copies that are neither named nor needed."""
        _write_atomically(self._directory / ALIASES_FILE, VERSION_BY_ALIAS.dump_json(dict(aliases)))
        self._prune({*aliases.values(), *needed})

    def registered(self, version: int) -> RegisteredRelease:
        """What the registry has about a version now.

        Raises `UpstreamUnavailable`, `ReleaseNotLoaded` if there is no such version, and `ReleaseDamaged` for an
        invalid tag.
        """
        tags = self._registry.tags_of(version)
        try:
            search = SearchSettings.model_validate_json(tags[SEARCH_TAG]) if SEARCH_TAG in tags else None
        except ValidationError as error:
            raise ReleaseDamaged(f"the tag {SEARCH_TAG!r} of version {version} is not valid search settings") from error
        try:
            ramp = Ramp.of(tags)
        except ValueError as error:
            raise ReleaseDamaged(f"the tag {RAMP_TAG!r} of version {version} is not a valid ramp") from error
        return RegisteredRelease(tags.get(WEIGHTS_TAG), search, ramp)

    def remember_search(self, search: Mapping[int, SearchSettings]) -> None:
        """Save the search settings, for a start without the registry."""
        _write_atomically(self._directory / SEARCH_FILE, SEARCH_BY_VERSION.dump_json(dict(search)))

    def last_search(self) -> dict[int, SearchSettings]:
        """The search settings last saved by `remember_search`; empty if there are none."""
        try:
            return SEARCH_BY_VERSION.validate_json((self._directory / SEARCH_FILE).read_bytes())
        except (FileNotFoundError, ValidationError):  # read again from the registry
            return {}

    def remember_ramps(self, ramps: Mapping[int, Ramp]) -> None:
        """Save the ramps by the champion that they belong to, for a start without the registry."""
        _write_atomically(self._directory / RAMPS_FILE, RAMP_BY_VERSION.dump_json(dict(ramps)))

    def last_ramps(self) -> dict[int, Ramp]:
        """The ramps last saved by `remember_ramps`; empty if there are none."""
        try:
            return RAMP_BY_VERSION.validate_json((self._directory / RAMPS_FILE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return {}

    def load(self, version: int) -> Release:
        """Load a release from disk or, if that copy is missing, damaged or outdated, from the registry.

        Raises `ReleaseDamaged` if the registry's copy is damaged too, `ReleaseTooLarge` before the memory is used up,
        `CopyInUse` and `UpstreamUnavailable`.
        """
        directory = self._directory / str(version)
        with self._locked(version):
            try:
                if directory.is_dir():
                    return self._load_copy(version, directory)
            except ReleaseDamaged as error:
                log.warning("local_release_damaged", version=version, problem=str(error))
                shutil.rmtree(directory)
            manifest = self._fetch(version, directory)
            self._require_memory(manifest, directory)
            return Release(version, manifest, directory, keep_candidates=True)

    def _load_copy(self, version: int, directory: Path) -> Release:
        manifest = ReleaseManifest.read(directory)
        self._require_same_weights(version, manifest, directory)
        self._require_memory(manifest, directory)
        return Release(version, verify_release(directory), directory, keep_candidates=True)

    def _require_memory(self, manifest: ReleaseManifest, directory: Path) -> None:
        left, needed = self._left(), loading_bytes(manifest.num_items, directory)
        if left is not None and needed > left.num_bytes:
            raise ReleaseTooLarge(
                f"loading takes about {describe_bytes(needed)} of memory, and {describe_bytes(max(0, left.num_bytes))} "
                f"are left {left.limit}",
                missing_bytes=needed - left.num_bytes,
            )

    def _require_same_weights(self, version: int, manifest: ReleaseManifest, directory: Path) -> None:
        """A registry that was set up again starts counting versions at 1, so a version can be another training."""
        local = manifest.weights_hash
        try:
            registered = self._registry.tags_of(version).get(WEIGHTS_TAG)
        except (UpstreamError, ReleaseNotLoaded):
            return  # the registry is unavailable or was emptied: use the copy
        if local != registered:
            raise ReleaseDamaged(
                f"{directory} has the weights {local}; version {version} in the registry has {registered}"
            )

    def _fetch(self, version: int, directory: Path) -> ReleaseManifest:
        """The copy appears when all of it was fetched and verified. Needs the lock of the version."""
        self._remove_partial_copies(version)
        partial = _partial(directory)
        partial.mkdir(parents=True)
        try:
            self._registry.fetch(version, partial)
            manifest = verify_release(partial)
            partial.rename(directory)
        except ReleaseDamaged as error:
            raise ReleaseDamaged(str(error).replace(str(partial), str(directory))) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def _prune(self, needed: Collection[int]) -> None:
        names = [path.name for path in self._directory.iterdir()]
        unneeded = sorted({int(name) for name in names if name.isdigit()}.difference(needed))
        old = set(unneeded[:-KEPT_COPIES])
        partial = {name.split(".")[0] for name in names if name.endswith(PARTIAL)}
        for version in old | {int(name) for name in partial if name.isdigit()}:
            try:
                with self._locked(version):
                    self._remove_partial_copies(version)
                    if version in old:
                        shutil.rmtree(self._directory / str(version), ignore_errors=True)
            except CopyInUse:
                continue  # a later call deletes it

    def _remove_partial_copies(self, version: int) -> None:
        """What a process left that was killed while it held the lock."""
        for path in self._directory.glob(f"{version}.*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self, version: int) -> Iterator[None]:
        """The process is the only one that works on the copy of a version. A dead process releases its lock."""
        path = self._directory / LOCKS_FOLDER / f"{version % LOCKS}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path).acquire(timeout=0)
        except Timeout as error:
            raise CopyInUse(f"another process is working on the copy of release {version}") from error
        with lock:
            yield


def _partial(path: Path) -> Path:
    """A name that no other process uses."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def _write_atomically(path: Path, content: bytes) -> None:
    """Leaves the old file in place if the disk is full. If several processes write, the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
