"""The ranker's own copies of releases: fetched once, kept on disk, so that it serves while the registry is away."""

import shutil
from pathlib import Path

import structlog

from recsys.errors import ReleaseDamaged
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release import Release

log = structlog.get_logger()


class LocalReleases:
    def __init__(self, directory: Path, registry: ModelRegistry) -> None:
        self._directory = directory
        self._registry = registry
        self._champion_file = directory / CHAMPION

    def champion(self) -> int | None:
        """The champion's version, as the registry says it now. Raises `UpstreamUnavailable`."""
        return self._registry.version_behind(CHAMPION)

    def last_champion(self) -> int | None:
        """The version that served last from this disk, for a start without the registry."""
        return int(self._champion_file.read_text()) if self._champion_file.is_file() else None

    def remember_champion(self, version: int) -> None:
        partial = self._champion_file.with_suffix(".partial")
        partial.write_text(str(version))
        partial.replace(self._champion_file)

    def load(self, version: int) -> Release:
        """A release from disk or, where that copy is missing or damaged, from the registry.

        Raises `ReleaseDamaged` where the registry's is damaged too, and `UpstreamUnavailable` where it is away.
        """
        directory = self._directory / str(version)
        if directory.is_dir():
            try:
                return Release.load(version, directory)
            except ReleaseDamaged as error:
                log.warning("local_release_damaged", version=version, problem=str(error))
                shutil.rmtree(directory)
        self._fetch(version, directory)
        return Release.load(version, directory)

    def _fetch(self, version: int, directory: Path) -> None:
        partial = directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._registry.fetch(version, partial)
            partial.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
