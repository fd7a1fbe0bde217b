"""The ranker's local copies of releases, which let it start and serve while the registry is unavailable."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from recsys.contracts.retrieval import SearchSettings
from recsys.errors import ReleaseDamaged, UpstreamError
from recsys.model.registry import SEARCH_TAG, WEIGHTS_TAG, ModelRegistry
from recsys.model.release import Release, ReleaseManifest

ALIASES_FILE = "aliases.json"
SEARCH_FILE = "search.json"
SEARCH_BY_VERSION = TypeAdapter(dict[int, SearchSettings])
KEPT_COPIES = 2
"""Newest versions without an alias that stay on disk."""

log = structlog.get_logger()


class LocalReleases:
    def __init__(self, directory: Path, registry: ModelRegistry) -> None:
        self._directory = directory
        self._registry = registry
        self._aliases_file = directory / ALIASES_FILE
        self._search_file = directory / SEARCH_FILE

    def aliases(self) -> dict[str, int]:
        """The registry's current aliases. Raises `UpstreamUnavailable`."""
        return self._registry.aliases()

    def last_aliases(self) -> dict[str, int]:
        """The aliases last saved by `remember`, for a start without the registry."""
        if not self._aliases_file.is_file():
            return {}
        return {str(alias): int(version) for alias, version in json.loads(self._aliases_file.read_text()).items()}

    def remember(self, aliases: dict[str, int]) -> None:
        """Save the aliases, and delete old copies that no alias names."""
        _write_atomically(self._aliases_file, json.dumps(aliases).encode())
        self._prune(aliases.values())

    def search_settings(self, version: int) -> SearchSettings | None:
        """The search settings in the registry now; None if the version's collection was never verified.

        Raises `UpstreamUnavailable`, and `ReleaseDamaged` for an invalid tag.
        """
        tag = self._registry.tags_of(version).get(SEARCH_TAG)
        if tag is None:
            return None
        try:
            return SearchSettings.model_validate_json(tag)
        except ValidationError as error:
            raise ReleaseDamaged(f"the tag {SEARCH_TAG!r} of version {version} is not valid search settings") from error

    def remember_search(self, search: Mapping[int, SearchSettings]) -> None:
        """Save the search settings, for a start without the registry."""
        _write_atomically(self._search_file, SEARCH_BY_VERSION.dump_json(dict(search)))

    def last_search(self) -> dict[int, SearchSettings]:
        """The search settings last saved by `remember_search`; empty if there are none."""
        try:
            return SEARCH_BY_VERSION.validate_json(self._search_file.read_bytes())
        except (FileNotFoundError, ValidationError):  # read again from the registry
            return {}

    def load(self, version: int) -> Release:
        """Load a release from disk or, if that copy is missing, damaged or outdated, from the registry.

        Raises `ReleaseDamaged` if the registry's copy is damaged too, and `UpstreamUnavailable`.
        """
        directory = self._directory / str(version)
        if directory.is_dir():
            try:
                self._require_same_weights(version, directory)
                return Release.load(version, directory)
            except ReleaseDamaged as error:
                log.warning("local_release_damaged", version=version, problem=str(error))
                shutil.rmtree(directory)
        self._fetch(version, directory)
        return Release.load(version, directory)

    def _require_same_weights(self, version: int, directory: Path) -> None:
        """A registry that was set up again starts counting versions at 1, so a version can be another training."""
        local = ReleaseManifest.read(directory).weights_hash
        try:
            registered = self._registry.tags_of(version).get(WEIGHTS_TAG)
        except UpstreamError:
            return  # the registry is unavailable: use the copy
        if local != registered:
            raise ReleaseDamaged(
                f"{directory} has the weights {local}; version {version} in the registry has {registered}"
            )

    def _fetch(self, version: int, directory: Path) -> None:
        partial = directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._registry.fetch(version, partial)
            partial.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _prune(self, needed: Collection[int]) -> None:
        copies = sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdigit())
        for version in [version for version in copies if version not in needed][:-KEPT_COPIES]:
            shutil.rmtree(self._directory / str(version))


def _write_atomically(path: Path, content: bytes) -> None:
    """Leaves the old file in place if the disk is full."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
