"""Finds which service calls which, from the TCP connections of every container."""

import ipaddress
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.compose.engine import run

Call = tuple[str, str]

OPEN_OR_JUST_CLOSED = {"01", "06"}
PORTS = {8000, 6379, 6333, 6334, 5000, 3306, 9000, 9090}
"""The ports that services listen on. The port at the client's end is arbitrary."""
EVERY_SECONDS = 0.5


class WatchedCalls:
    """Collects the calls between a project's containers until the block ends."""

    def __init__(self, project: str) -> None:
        self.calls: set[Call] = set()
        self._project = project
        self._services: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "WatchedCalls":
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            containers = self._containers()
            for each in containers:
                for network in each["NetworkSettings"]["Networks"].values():
                    self._services[network["IPAddress"]] = _service(each)
            for each in containers:
                called = {
                    self._services[ip] for ip, port in _remote_ends(each) if ip in self._services and port in PORTS
                }
                self.calls |= {(_service(each), other) for other in called - {_service(each)}}

    def _containers(self) -> list[dict[str, Any]]:
        ids = run("docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={self._project}").stdout.split()
        # Without check: a container may have ended since it was listed, and the others are still printed.
        return json.loads(run("docker", "inspect", *ids, check=False).stdout) if ids else []


def _service(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def _remote_ends(container: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for table in ("tcp", "tcp6"):
        for line in _table(container, table).splitlines()[1:]:
            _, _, remote, state, *_ = line.split()
            if state in OPEN_OR_JUST_CLOSED:
                address, port = remote.split(":")
                yield _ip(address), int(port, 16)


def _table(container: dict[str, Any], table: str) -> str:
    try:
        return Path(f"/proc/{container['State']['Pid']}/net/{table}").read_text()
    except OSError:  # the engine is on another machine, or the container has ended
        return run("docker", "exec", container["Id"], "cat", f"/proc/net/{table}", check=False).stdout


def _ip(address: str) -> str:
    """The kernel writes each 32-bit word in the machine's byte order, which is little-endian here."""
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(words))
    return str(getattr(found, "ipv4_mapped", None) or found)
