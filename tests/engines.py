"""Real engines for the tests: the local runtime's own processes, on ports and in folders of the test's choosing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import redis as redis_client
from redis.exceptions import RedisError

from local import commands
from local.settings import HOST, LocalSettings
from local.stores import dies_with_parent

START_SECONDS = 60
STOP_SECONDS = 10
SHOWN_LOG = 2000


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def local_settings(state_dir: Path, **values: Any) -> LocalSettings:
    """A runtime of the test's own, whatever the environment says; every port is free."""
    ports = ("orchestrator_port", "feature_service_port", "ranker_port", "mlflow_port", "redis_port")
    own = dict(zip(ports, free_ports(len(ports)), strict=True))
    nobody = {"redis_url": None, "mlflow_tracking_uri": None, "qdrant_url": None, "log_level": "info"}
    return LocalSettings.model_validate({"dataset": "toy", "state_dir": state_dir, **own, **nobody, **values})


def environment(settings: LocalSettings) -> dict[str, str]:
    """What the runtime gives its processes, with a deadline that a busy machine keeps too."""
    hurry = {"RANKER_POLL_SECONDS": "0.3", "ORCHESTRATOR_REFRESH_SECONDS": "0.3"}
    return {**settings.environment(), "ORCHESTRATOR_DEADLINE_MS": "10000", **hurry}


class Engine:
    """One process with everything it started, and its log."""

    def __init__(self, name: str, settings: LocalSettings, **more_environment: str) -> None:
        self._name = name
        self._command = getattr(commands, name)(settings)
        self._environment = {**environment(settings), **more_environment}
        self.log_file = settings.home / "logs" / f"{name}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                dies_with_parent(self._command),
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, answers: Callable[[], bool]) -> None:
        def answers_or_ended() -> bool:
            assert self.runs, f"{self._name} ended; its log closes with:\n{self._log_tail()}"
            return answers()

        eventually(answers_or_ended, f"{self._name} did not answer; its log closes with:", self._log_tail)

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-SHOWN_LOG:]


@contextmanager
def running(settings: LocalSettings, *names: str, **more_environment: str) -> Iterator[dict[str, Engine]]:
    """Processes of `local.commands`, started side by side, until the end of the block; up, but not always ready."""
    answers = {
        "redis": lambda: redis_answers(settings),
        "mlflow": lambda: answers_with_200(f"{settings.mlflow_url}/health"),
        "feature_service": lambda: answers_with_200(f"{settings.feature_service_url}/healthz"),
        "ranker_service": lambda: answers_with_200(f"{settings.ranker_url}/healthz"),
        "orchestrator": lambda: answers_with_200(f"{settings.orchestrator_url}/healthz"),
    }
    with ExitStack() as stack:
        engines = {}
        for name in names:
            engines[name] = Engine(name, settings, **more_environment)
            stack.callback(engines[name].stop)
        for name, engine in engines.items():
            engine.wait_until(answers[name])
        yield engines


def eventually(
    holds: Callable[[], bool], complaint: str = "it never came true", more: Callable[[], str] = lambda: ""
) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < give_up, f"{complaint}\n{more()}"
        time.sleep(0.05)


def answers_with_200(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def redis_answers(settings: LocalSettings) -> bool:
    with closing(redis_client.Redis(HOST, settings.redis_port, socket_timeout=1)) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


class Cable:
    """Passes what it gets on a port of its own on to another one, until it is cut: a server that is away and back."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = free_ports(1)[0]
        self._ends: list[socket.socket] = []
        self._plugged: socket.socket | None = None
        self.plug_in()

    def plug_in(self) -> None:
        listening = socket.create_server((HOST, self.port))
        self._plugged = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def cut(self) -> None:
        for end in [self._plugged, *self._ends]:
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._plugged, self._ends = None, []

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.plug_in()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                try:
                    far = socket.create_connection((HOST, self._target_port))
                except OSError:
                    near.close()  # the server behind is not up yet
                    continue
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                sink.sendall(received)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def shared_file(path: str) -> Path | None:
    """A file of the folder that TANDEM_SHARED names; None where it is missing."""
    repository = Path(__file__).resolve().parents[1]
    found = Path(os.environ.get("TANDEM_SHARED", repository.parent / "shared")) / path
    return found if found.exists() else None


@contextmanager
def qdrant_stand_in(server: Path, storage: Path) -> Iterator[str]:
    """The address of a server that speaks the part of Qdrant's REST API that we use."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "uvicorn", "server:app", "--app-dir", str(server.parent), "--host", HOST]
    process = subprocess.Popen(
        dies_with_parent([*command, "--port", str(port), "--log-level", "warning"]),
        env={**os.environ, "QDRANT_STORAGE": str(storage)},
    )
    url = f"http://{HOST}:{port}"
    try:
        eventually(lambda: answers_with_200(f"{url}/readyz"), "the Qdrant stand-in did not start")
        yield url
    finally:
        process.terminate()
        process.wait()
