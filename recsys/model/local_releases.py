"""The ranker's own copies of releases: fetched once, kept on disk, so that it serves while the registry is away."""

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
"""Of the versions that no alias names, so many of the newest stay on disk."""

log = structlog.get_logger()


class LocalReleases:
    def __init__(self, directory: Path, registry: ModelRegistry) -> None:
        self._directory = directory
        self._registry = registry
        self._aliases_file = directory / ALIASES_FILE
        self._search_file = directory / SEARCH_FILE

    def aliases(self) -> dict[str, int]:
        """Which versions have which role, as the registry says it now. Raises `UpstreamUnavailable`."""
        return self._registry.aliases()

    def last_aliases(self) -> dict[str, int]:
        """What `remember` was last told, for a start without the registry."""
        if not self._aliases_file.is_file():
            return {}
        return {str(alias): int(version) for alias, version in json.loads(self._aliases_file.read_text()).items()}

    def remember(self, aliases: dict[str, int]) -> None:
        """Write down who serves, and delete the copies that nobody is likely to need again."""
        _write_whole(self._aliases_file, json.dumps(aliases).encode())
        self._prune(aliases.values())

    def search_settings(self, version: int) -> SearchSettings | None:
        """How the version's collection is searched, as the registry says now; None if it was never verified.

        Raises `UpstreamUnavailable`, and `ReleaseDamaged` for a tag that cannot be read.
        """
        tag = self._registry.tags_of(version).get(SEARCH_TAG)
        if tag is None:
            return None
        try:
            return SearchSettings.model_validate_json(tag)
        except ValidationError as error:
            raise ReleaseDamaged(f"the tag {SEARCH_TAG!r} of version {version} holds no search settings") from error

    def remember_search(self, search: Mapping[int, SearchSettings]) -> None:
        """Write down how collections are searched, for a start without the registry."""
        _write_whole(self._search_file, SEARCH_BY_VERSION.dump_json(dict(search)))

    def last_search(self) -> dict[int, SearchSettings]:
        """What `remember_search` was last given."""
        try:
            return SEARCH_BY_VERSION.validate_json(self._search_file.read_bytes())
        except (FileNotFoundError, ValidationError):  # the registry tells it again
            return {}

    def load(self, version: int) -> Release:
        """A release from disk or, where that copy is missing, damaged or another's, from the registry.

        Raises `ReleaseDamaged` where the registry's is damaged too, and `UpstreamUnavailable` where it is away.
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
        """A registry that was made anew numbers its versions anew too."""
        here = ReleaseManifest.read(directory).weights_hash
        try:
            there = self._registry.tags_of(version).get(WEIGHTS_TAG)
        except UpstreamError:
            return  # nobody to ask: the copy is what there is
        if here != there:
            raise ReleaseDamaged(f"{directory} has the weights {here}, the registry's version {version} has {there}")

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


def _write_whole(path: Path, content: bytes) -> None:
    """All of it or, if the disk is full, none."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
