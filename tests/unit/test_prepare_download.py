"""Downloads over a real socket: whole, interrupted and resumed, with a wrong hash, and with nobody there."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys.errors import DataError
from training.datasets.download import Download, fetch

CONTENT = bytes(range(256)) * 4000


class Publisher:
    """A server that keeps what it was asked, and can be told to hang up early or to ignore ranges."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.hang_up_after: list[int] = []
        self.resumes = True
        self.md5 = hashlib.md5(CONTENT).hexdigest()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == "/set.zip.md5":
            self.send(request, 200, f"MD5 (set.zip) = {self.md5}\n".encode())
        elif request.path != "/set.zip":
            self.send(request, 404, b"no")
        else:
            asked = request.headers["Range"]
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.resumes else 0
            if start >= len(CONTENT):
                self.send(request, 416, b"", f"bytes */{len(CONTENT)}")
            else:
                span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}" if start else None
                self.send(request, 206 if start else 200, CONTENT[start:], span)

    def send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, span: str | None = None) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if span is not None:
            request.send_header("Content-Range", span)
        request.end_headers()
        cut = self.hang_up_after.pop(0) if self.hang_up_after and len(body) > 1000 else len(body)
        request.wfile.write(body[:cut])

    @property
    def download(self) -> Download:
        return Download(f"{self.url}/set.zip", md5_url=f"{self.url}/set.zip.md5")


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.server.shutdown()
    publisher.server.server_close()


def test_a_download_is_checked_kept_and_not_repeated(tmp_path: Path, publisher: Publisher) -> None:
    path = fetch(publisher.download, tmp_path / "downloads")
    assert path == tmp_path / "downloads" / "set.zip"
    assert path.read_bytes() == CONTENT
    assert fetch(publisher.download, tmp_path / "downloads") == path
    assert publisher.ranges == [None]
    assert [left.name for left in path.parent.iterdir()] == ["set.zip"]


def test_a_broken_connection_is_resumed_at_once(tmp_path: Path, publisher: Publisher) -> None:
    publisher.hang_up_after = [300_000]
    assert fetch(publisher.download, tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == [None, "bytes=300000-"]


def test_what_an_earlier_run_left_is_resumed(tmp_path: Path, publisher: Publisher) -> None:
    (tmp_path / "set.zip.partial").write_bytes(CONTENT[:1234])
    assert fetch(publisher.download, tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == ["bytes=1234-"]


def test_a_whole_partial_is_only_checked(tmp_path: Path, publisher: Publisher) -> None:
    (tmp_path / "set.zip.partial").write_bytes(CONTENT)
    assert fetch(publisher.download, tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_server_that_cannot_resume_sends_all_of_it(tmp_path: Path, publisher: Publisher) -> None:
    publisher.resumes = False
    (tmp_path / "set.zip.partial").write_bytes(b"other bytes")
    assert fetch(publisher.download, tmp_path).read_bytes() == CONTENT


def test_after_too_many_breaks_the_rest_waits_for_the_next_run(tmp_path: Path, publisher: Publisher) -> None:
    publisher.hang_up_after = [1000, 1000, 1000]
    with pytest.raises(DataError, match=r"it cannot be downloaded .* set DATA_SOURCE to a local copy"):
        fetch(publisher.download, tmp_path)
    assert (tmp_path / "set.zip.partial").stat().st_size == 3000
    assert fetch(publisher.download, tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_names_both_and_starts_over(tmp_path: Path, publisher: Publisher) -> None:
    right, wrong = publisher.md5, "0" * 32
    publisher.md5 = wrong
    with pytest.raises(DataError, match=f"the md5 is {right}, but the published md5 is {wrong}"):
        fetch(publisher.download, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_hash_is_refused(tmp_path: Path, publisher: Publisher) -> None:
    publisher.md5 = "none today"
    with pytest.raises(DataError, match=r"set\.zip\.md5: the response of the server has no md5"):
        fetch(publisher.download, tmp_path)


def test_a_missing_file_is_one_sentence(tmp_path: Path, publisher: Publisher) -> None:
    with pytest.raises(DataError, match=r"other\.zip: the server responded with 404; .*DATA_SOURCE"):
        fetch(Download(f"{publisher.url}/other.zip"), tmp_path)


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DataError, match=r"set\.zip: it cannot be downloaded .* set DATA_SOURCE to a local copy"):
            fetch(Download(f"http://127.0.0.1:{port}/set.zip"), tmp_path)
