"""Unpack archives into a folder. Archives with paths outside of that folder are rejected."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from recsys.errors import DataError

KINDS = (".zip", ".whl", ".tar", ".tar.gz", ".tgz", ".jsonl.gz")


def unpack(archive: Path, folder: Path) -> None:
    name = archive.name.lower()
    try:
        if name.endswith((".zip", ".whl")):
            _unzip(archive, folder)
        elif name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(archive) as tar:
                # The data filter rejects absolute paths, paths and links out of the folder, and devices.
                tar.extractall(folder, filter="data")
        elif name.endswith(".jsonl.gz"):
            with gzip.open(archive) as packed, (folder / archive.name[: -len(".gz")]).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        else:
            raise DataError(f"this is neither a folder nor an archive ({', '.join(KINDS)})", file=archive)
    except tarfile.FilterError as exc:
        raise DataError(f"the archive has a path outside of its folder: {exc}", file=archive) from exc
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as exc:
        raise DataError(f"the archive is damaged: {exc}", file=archive) from exc


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if member.flag_bits & 0x1:
                raise DataError(f"{member.filename!r} is encrypted", file=archive)
            if not (folder / member.filename).resolve().is_relative_to(folder.resolve()):
                raise DataError(f"the archive has a path outside of its folder: {member.filename!r}", file=archive)
        packed.extractall(folder)  # noqa: S202 - every member was checked
