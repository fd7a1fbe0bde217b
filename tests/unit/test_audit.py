"""The audit fails for what is known, passes over what was decided, and skips where nobody can be asked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
    """As osv.dev answers, which knows of one thing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told = json.dumps({"vulns": [KNOWN]} if asked["package"]["name"] == "burning" else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def advisories() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture
def lock(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# the lock\nburning==1.0\nstone==2.0\n")
    return file


@pytest.fixture
def ignored(tmp_path):
    file = tmp_path / "audit-ignored.txt"
    file.write_text("# nothing\n")
    return file


def test_what_is_known_fails(lock, ignored, advisories):
    fine, said = audit(lock, ignored, advisories)
    assert not fine
    assert "burning 1.0: CVE-2026-1, fixed in 1.1" in said
    assert "stone" not in said


def test_where_nothing_is_known_it_passes(lock, ignored, advisories):
    lock.write_text("stone==2.0\n")
    assert audit(lock, ignored, advisories) == (True, "audit: nothing is known against 1 packages")


@pytest.mark.parametrize("name", ["GHSA-aaaa-bbbb-cccc", "CVE-2026-1"])
def test_what_was_decided_is_passed_over(lock, ignored, advisories, name):
    ignored.write_text(f"{name}: we have no matches\n")
    fine, said = audit(lock, ignored, advisories)
    assert fine, said


def test_a_decision_needs_a_reason(lock, ignored, advisories):
    ignored.write_text("GHSA-aaaa-bbbb-cccc\n")
    fine, said = audit(lock, ignored, advisories)
    assert not fine
    assert "no reason for GHSA-aaaa-bbbb-cccc" in said


def test_where_nobody_can_be_asked_it_is_skipped(lock, ignored):
    fine, said = audit(lock, ignored, f"http://{HOST}:{free_ports(1)[0]}/")
    assert fine
    assert said.startswith("audit: skipped")
    assert "\n" not in said


def test_a_lock_that_cannot_be_read_is_no_pass(lock, ignored, advisories):
    lock.write_text("burning>=1.0\n")
    fine, said = audit(lock, ignored, advisories)
    assert not fine, said
