"""Downloads that can be interrupted: into `<name>.partial`, resumed from where they stopped, checked, then renamed."""

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
    """Where the publisher says what the md5 is."""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(download: Download, folder: Path) -> Path:
    """The downloaded file, from an earlier run if it is there already."""
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
        problem = f"the server answered {exc.response.status_code}; download it by hand and set DATA_SOURCE to it"
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
    answer = client.get(download.md5_url).raise_for_status()
    found = _MD5.search(answer.text)
    if found is None:
        raise DataError("there is no md5 in what the server sent", file=download.md5_url)
    return found[0].lower()


def _receive_all(client: httpx.Client, download: Download, partial: Path) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _receive(client, download, partial)
        except httpx.TransportError:
            # What has arrived is kept; without a first byte there is nothing to resume.
            if attempt == _ATTEMPTS or not partial.exists():
                raise
    raise AssertionError("the last attempt returns or raises")


def _receive(client: httpx.Client, download: Download, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", download.url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # All of it has arrived, or the publisher's file is now shorter than our part.
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return
            partial.unlink()
            answer.raise_for_status()
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        size = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
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
            for piece in answer.iter_bytes():
                file.write(piece)
                progress.update(len(piece))


def _check(download: Download, partial: Path, published: str) -> None:
    with partial.open("rb") as file:
        arrived = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if arrived != published:
        # Resuming would keep the fault: the next run starts over.
        partial.unlink()
        raise DataError(f"the md5 is {arrived}, and the publisher's is {published}; run it again", file=download.url)
