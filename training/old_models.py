"""Removes what old trainings left on the disk; the registry keeps every release."""

import re
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from training.model_directory import LATEST_FILE, LATEST_TOWERS_FILE

WRITTEN = re.compile(r"(towers-|second_stage-|sequences-)?[0-9a-f]{12}(\.checkpoint|-[\w-]+)?")
"""The directories of trainings, with their kind. Others, such as those of a split in time, are not touched."""


def remove_old_models(models_dir: Path, reports_dir: Path, keep: int, serving: Collection[str]) -> list[str]:
    """The names of the directories that were removed: of each kind, all but the newest `keep`.

    The models that were trained last and those with the fingerprints `serving` are kept as well.
    """
    latest = {_content(models_dir / name) for name in (LATEST_FILE, LATEST_TOWERS_FILE)}
    kinds: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder in (models_dir, reports_dir):
        for path in folder.iterdir() if folder.is_dir() else ():
            kind = WRITTEN.fullmatch(path.name)
            if kind and path.is_dir():
                kinds[str(folder), kind[1] or "", kind[2] or ""].append(path)
    removed = []
    for paths in kinds.values():
        newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
        removed += [path for path in newest[keep:] if path.name not in latest and path.name not in serving]
    for path in removed:
        shutil.rmtree(path)
    return sorted(path.name for path in removed)


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""
