"""Runs `make demo` and `make pipeline` as a user does, on free ports and in folders that the test chooses."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines import PORTS, free_ports

ROOT = Path(__file__).parents[2]
PORT_SETTINGS = tuple(map(str.upper, PORTS))
NOT_INHERITED = {
    *("MAKEFLAGS", "MAKELEVEL", "MFLAGS"),
    *("REDIS_URL", "MLFLOW_TRACKING_URI", "QDRANT_URL", "QDRANT_EDGE_DIR", "RANKER_URL"),
}
"""Set by the make that runs the tests, or by tests with their own stores."""
AT_LOW_PRIORITY = ["sh", "-c", '{ echo 5 > /proc/self/autogroup; } 2>/dev/null; exec nice -n 5 "$@"', "sh"]
"""Runs a command that yields to the tests beside it. Linux may give a session a priority of its own."""
READY = "Ctrl-C stops everything"
WAIT_SECONDS = 540
"""A cold demo takes two minutes on two cores; other tests run beside it."""


def settings_in(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a main job that uses only `folder` and free ports."""
    ports = dict(zip(PORT_SETTINGS, map(str, free_ports(len(PORT_SETTINGS))), strict=True))
    own = {"STATE_DIR": str(folder / "state"), "DATA_DIR": str(folder / "data"), "ORCHESTRATOR_DEADLINE_MS": "5000"}
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {**inherited, **ports, **own, **settings}


class Running:
    """A running command and its output so far."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.env = env
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def url(self, setting: str) -> str:
        return f"http://127.0.0.1:{self.env[setting]}"

    def wait_for(self, text: str) -> None:
        """Wait until `text` has been printed. Fails if the command ends first or takes too long."""
        give_up = time.monotonic() + WAIT_SECONDS
        while text not in self.output:
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {text!r}:\n{self.output}"
            assert time.monotonic() < give_up, f"no {text!r} after {WAIT_SECONDS} s:\n{self.output}"
            time.sleep(0.05)

    def finish(self) -> int:
        code = self.process.wait(WAIT_SECONDS)
        self._reader.join(10)
        return code

    def interrupt(self) -> None:
        """Ctrl-C: the whole process group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[Running]:
    started = Running(command, env)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.interrupt()
            try:
                started.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(started.process.pid, signal.SIGKILL)
                started.process.wait()


def is_free(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) != 0
