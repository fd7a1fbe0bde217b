"""Starts the processes of the local runtime for tests, on free ports and in folders that the test chooses."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis as redis_client
from redis.exceptions import RedisError

from local import commands, tour
from local.ports import free_ports
from local.settings import HOST, LocalSettings
from local.stores import dies_with_parent

START_SECONDS = 180
STOP_SECONDS = 10
SHOWN_LOG = 2000
PORTS = tuple(name for name in LocalSettings.model_fields if name.endswith("_port"))


def local_settings(state_dir: Path, **values: Any) -> LocalSettings:
    """Settings of a separate runtime on free ports. The environment is ignored."""
    own = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    unset = {"redis_url": None, "mlflow_tracking_uri": None, "qdrant_url": None, "log_level": "info"}
    folders = {"state_dir": state_dir, "event_log": str(state_dir / "event_log")}
    return LocalSettings.model_validate({"dataset": "toy", **folders, **own, **unset, **values})


def environment(settings: LocalSettings) -> dict[str, str]:
    """The runtime's environment, with short polling intervals and a deadline that a busy machine can meet."""
    fast = {"RANKER_POLL_SECONDS": "0.3", "ORCHESTRATOR_REFRESH_SECONDS": "0.3", "FEATURE_SERVICE_POPULAR_SECONDS": "0"}
    fast |= {"RANKER_ACTIVITY_SECONDS": "0.3"}
    patient = {"ORCHESTRATOR_DEADLINE_MS": "10000", "COLLECTOR_SECONDS": "0.3"}
    return {**settings.environment(), **patient, **fast}


class Process:
    """One process, its child processes and its log file."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log_file: Path, answers: Callable[[], bool]
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._command = command
        self._environment = environment
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or restart it with the same command."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                dies_with_parent(self._command),
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        def responds_or_ended() -> bool:
            assert self.runs, f"{self.name} ended; the end of its log:\n{self._log_tail()}"
            return self._answers()

        eventually(responds_or_ended, f"{self.name} did not respond; the end of its log:", self._log_tail)

    def wait_until_it_says(self, text: str) -> None:
        """Wait for a text in its log, as long as it takes: a training is slow on a busy machine."""
        while text not in self.log_file.read_text(errors="replace"):
            assert self.runs, f"{self.name} ended; the end of its log:\n{self._log_tail()}"
            time.sleep(0.1)

    def stop(self) -> None:
        if not self.runs:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._started.pid, signal.SIGTERM)
        try:
            self.wait_until_ended()
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._signal_all(signal.SIGKILL)
        self.wait_until_ended()

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Send SIGTERM to the first process only, as a container engine does."""
        self._started.terminate()

    def wait_until_ended(self) -> int:
        """Return its exit code."""
        return self._started.wait(STOP_SECONDS)

    @property
    def family(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        first = psutil.Process(self._started.pid)
        return [first, *first.children(recursive=True)]

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    def _signal_all(self, number: int) -> None:
        """Signal the process and all its descendants, including those in other sessions, such as BentoML's workers."""
        with suppress(psutil.NoSuchProcess):
            for each in self.family:
                each.send_signal(number)

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-SHOWN_LOG:]


class ServiceProcess(Process):
    """A process with a command from `local.commands`."""

    def __init__(self, name: str, settings: LocalSettings, **more_environment: str) -> None:
        answers: dict[str, Callable[[], bool]] = {
            "redis": lambda: redis_answers(settings),
            "mlflow": lambda: answers_with_200(f"http://{HOST}:{settings.mlflow_port}/health"),
            "feature_service": lambda: answers_with_200(f"{settings.feature_service_url}/healthz"),
            "collector": lambda: answers_with_200(f"{settings.collector_url}/healthz"),
            "guard": lambda: answers_with_200(f"{settings.guard_url}/healthz"),
            "retrainer": lambda: answers_with_200(f"{settings.retrainer_url}/healthz"),
            "ranker_service": lambda: answers_with_200(f"{settings.ranker_url}/healthz"),
            "orchestrator": lambda: answers_with_200(f"{settings.orchestrator_url}/healthz"),
        }
        super().__init__(
            name,
            getattr(commands, name)(settings),
            {**environment(settings), **more_environment},
            settings.home / "logs" / f"{name}.log",
            answers[name],
        )


@contextmanager
def running(settings: LocalSettings, *names: str, **more_environment: str) -> Iterator[dict[str, ServiceProcess]]:
    """Start processes of `local.commands` at the same time and stop them after the block. They are up, but may not be
    ready."""
    with ExitStack() as stack:
        engines = {}
        for name in names:
            engines[name] = ServiceProcess(name, settings, **more_environment)
            engines[name].start()
            stack.callback(engines[name].stop)
        for engine in engines.values():
            engine.wait_until_up()
        yield engines


def eventually(
    holds: Callable[[], bool], message: str = "the condition never held", details: Callable[[], str] = lambda: ""
) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < give_up, f"{message}\n{details()}"
        time.sleep(0.05)


def answers_with_200(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def is_whole(url: str) -> bool:
    """Whether the service at the URL is ready and misses nothing."""
    try:
        return tour.is_whole(httpx.get(f"{url}/readyz", timeout=5))
    except httpx.HTTPError:
        return False


def redis_answers(settings: LocalSettings) -> bool:
    with closing(redis_client.Redis(HOST, settings.redis_port, socket_timeout=1)) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def shared_file(path: str) -> Path | None:
    """A file in the folder that TANDEM_SHARED names, or None if it is missing."""
    repository = Path(__file__).resolve().parents[1]
    found = Path(os.environ.get("TANDEM_SHARED", repository.parent / "shared")) / path
    return found if found.exists() else None


class QdrantStandIn(Process):
    """A server that implements the part of Qdrant's REST API that this project uses."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://{HOST}:{self.port}"
        command = [sys.executable, "-m", "uvicorn", "server:app", "--app-dir", str(server.parent), "--host", HOST]
        super().__init__(
            "qdrant",
            [*command, "--port", str(self.port), "--log-level", "warning"],
            {**os.environ, "QDRANT_STORAGE": str(folder)},
            folder / "qdrant.log",
            lambda: answers_with_200(f"{self.url}/readyz"),
        )


def qdrant_stand_in_or_skip(folder: Path) -> QdrantStandIn:
    server = shared_file("docker-lab/standins/qdrant/server.py")
    if server is None:
        pytest.skip("TANDEM_SHARED names no folder with docker-lab/standins/qdrant/server.py, a Qdrant stand-in")
    return QdrantStandIn(server, folder)
