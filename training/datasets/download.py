"""Resumable downloads: written to `<name>.partial`, checked, then renamed."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from tqdm import tqdm

from recsys.errors import DataError

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ATTEMPTS = 3
_MD5 = re.compile(r"\b[0-9a-f]{32}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Download:
    url: str
    md5_url: str | None = None
    """The URL of the published md5."""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(download: Download, folder: Path) -> Path:
    """The downloaded file. It is downloaded only if it does not exist."""
    path = folder / download.name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            published = _published_md5(client, download)
            _receive_all(client, download, partial)
    except httpx.HTTPStatusError as exc:
        problem = (
            f"the server responded with {exc.response.status_code}; download it manually and set DATA_SOURCE to it"
        )
        raise DataError(problem, file=download.url) from exc
    except httpx.HTTPError as exc:
        problem = f"it cannot be downloaded ({exc or type(exc).__name__}); set DATA_SOURCE to a local copy"
        raise DataError(problem, file=download.url) from exc
    if published is not None:
        _check(download, partial, published)
    partial.replace(path)
    return path


def _published_md5(client: httpx.Client, download: Download) -> str | None:
    if download.md5_url is None:
        return None
    response = client.get(download.md5_url).raise_for_status()
    found = _MD5.search(response.text)
    if found is None:
        raise DataError("the response of the server has no md5", file=download.md5_url)
    return found[0].lower()


def _receive_all(client: httpx.Client, download: Download, partial: Path) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _receive(client, download, partial)
        except httpx.TransportError:
            # The received part is kept for resuming; without one there is nothing to resume.
            if attempt == _ATTEMPTS or not partial.exists():
                raise
    raise AssertionError("the last attempt returns or raises")


def _receive(client: httpx.Client, download: Download, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", download.url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # The partial file is complete, or the published file is shorter by now.
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            partial.unlink()
            response.raise_for_status()
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        size = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        start = have if resumed else 0
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=download.name,
                total=None if size is None else start + size,
                initial=start,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            ) as progress,
        ):
            for piece in response.iter_bytes():
                file.write(piece)
                progress.update(len(piece))


def _check(download: Download, partial: Path, published: str) -> None:
    with partial.open("rb") as file:
        actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != published:
        # Resuming would keep the damage, so the next run starts over.
        partial.unlink()
        raise DataError(f"the md5 is {actual}, but the published md5 is {published}; run it again", file=download.url)
