"""What the tests of the prepare job share: run it on files in a folder, and read back what it wrote."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, Manifest
from training.jobs.prepare import prepare
from training.settings import JobSettings


class Prepared(NamedTuple):
    line: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    manifest: Manifest


def settings(
    tmp_path: Path, dataset: str, source: Path | None = None, columns: str | None = None, **others: object
) -> JobSettings:
    given = {"data_source": None if source is None else str(source), "data_columns": columns, **others}
    return JobSettings.model_validate({"dataset": dataset, "data_dir": tmp_path / "data", "seed": 42, **given})


def run(
    tmp_path: Path, dataset: str, source: Path | None = None, columns: str | None = None, **others: object
) -> Prepared:
    chosen = settings(tmp_path, dataset, source, columns, **others)
    line = prepare(chosen)
    folder = chosen.processed_dir
    return Prepared(
        line,
        pl.read_parquet(folder / INTERACTIONS_FILE),
        pl.read_parquet(folder / CATALOGUE_FILE),
        Manifest.read(folder),
    )


def folder_of(tmp_path: Path, **files: str | bytes) -> Path:
    """A folder `source` with these files; `__` in a name stands for a dot."""
    folder = tmp_path / "source"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder
