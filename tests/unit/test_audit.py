"""The audit fails for known vulnerabilities, skips those that are ignored with a reason, and is skipped offline."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.audit import audit
from local.settings import HOST
from tests.engines import free_ports

KNOWN = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2026-1"],
    "summary": "It burns",
    "affected": [
        {
            "package": {"name": "burning", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """A stub of osv.dev that knows one vulnerability."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"vulns": [KNOWN]} if query["package"]["name"] == "burning" else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def advisories() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.lock"
    hashed = "".join(f"{pinned} --hash=sha256:{'0' * 64}\n" for pinned in ("burning==1.0", "stone==2.0"))
    file.write_text(f"# the lock\n{hashed}")
    return file


@pytest.fixture
def ignored(tmp_path: Path) -> Path:
    file = tmp_path / "audit-ignored.txt"
    file.write_text("# nothing\n")
    return file


def test_a_known_vulnerability_fails(lock: Path, ignored: Path, advisories: str) -> None:
    passed, message = audit([lock], ignored, advisories)
    assert not passed
    assert "burning 1.0: CVE-2026-1, fixed in 1.1" in message
    assert "stone" not in message


def test_no_known_vulnerability_passes(lock: Path, ignored: Path, advisories: str, tmp_path: Path) -> None:
    lock.write_text(f"stone==2.0 --hash=sha256:{'0' * 64}\n")
    without_hashes = tmp_path / "requirements-torch.txt"
    without_hashes.write_text("--extra-index-url https://index.example/cpu\nsteel==3.0\n")
    expected = (True, "audit: no known vulnerabilities in 2 packages")
    assert audit([lock, without_hashes], ignored, advisories) == expected


@pytest.mark.parametrize("name", ["GHSA-aaaa-bbbb-cccc", "CVE-2026-1"])
def test_an_ignored_advisory_passes(lock: Path, ignored: Path, advisories: str, name: str) -> None:
    ignored.write_text(f"{name}: we have no matches\n")
    passed, message = audit([lock], ignored, advisories)
    assert passed, message


def test_an_ignored_advisory_needs_a_reason(lock: Path, ignored: Path, advisories: str) -> None:
    ignored.write_text("GHSA-aaaa-bbbb-cccc\n")
    passed, message = audit([lock], ignored, advisories)
    assert not passed
    assert "no reason for GHSA-aaaa-bbbb-cccc" in message


def test_the_audit_is_skipped_offline(lock: Path, ignored: Path) -> None:
    passed, message = audit([lock], ignored, f"http://{HOST}:{free_ports(1)[0]}/")
    assert passed
    assert message.startswith("audit: skipped")
    assert "\n" not in message


def test_an_unpinned_lock_fails(lock: Path, ignored: Path, advisories: str) -> None:
    lock.write_text("burning>=1.0\n")
    passed, message = audit([lock], ignored, advisories)
    assert not passed, message
