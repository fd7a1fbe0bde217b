"""Run a command with Redis and MLflow available: `python -m local.stores <command>`.

A store that is already running, or that a setting replaces with an external server, is used as it is. The others are
started, and stopped after the command; their data stays in the state folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import redis as redis_client
from redis.exceptions import RedisError

from local import commands
from local.ports import require_free
from local.running import services_run
from local.settings import HOST, LocalSettings
from recsys.errors import JobError

START_SECONDS = 240
STOP_SECONDS = 10
SHOWN_LOG_LINES = 5


@dataclass(frozen=True, slots=True)
class Store:
    name: str
    command: Callable[[LocalSettings], commands.Command]
    port: int
    setting: str
    answers: Callable[[], bool]
    """Whether our store listens on the port. Raises JobError if another server does."""


def embedded_stores(settings: LocalSettings) -> list[Store]:
    """The stores that no setting replaces with an external server."""
    stores = []
    if settings.redis_url is None:
        folder = settings.home / "redis"
        redis_answers = lambda: _redis_answers(settings.redis_port, folder)  # noqa: E731
        stores.append(Store("redis", commands.redis, settings.redis_port, "REDIS_PORT", redis_answers))
    if settings.mlflow_tracking_uri is None:
        mlflow_answers = lambda: _mlflow_answers(settings.mlflow_url)  # noqa: E731
        stores.append(Store("mlflow", commands.mlflow, settings.mlflow_port, "MLFLOW_PORT", mlflow_answers))
    return stores


def missing_stores(settings: LocalSettings) -> list[Store]:
    """The embedded stores that are not running. Raises JobError if another process uses a port."""
    missing = [store for store in embedded_stores(settings) if not store.answers()]
    for store in missing:
        require_free(store.port, store.setting)
    return missing


@contextmanager
def stores_running(settings: LocalSettings) -> Iterator[None]:
    with ExitStack() as stack:
        starting = [
            (store, stack.enter_context(running(store.name, store.command(settings), settings)))
            for store in missing_stores(settings)
        ]
        for store, process in starting:
            _wait_until_it_answers(store, process, _log_file(store.name, settings))
        yield


def main(command: list[str]) -> int:
    settings = LocalSettings()
    try:
        with stores_running(settings):
            job = subprocess.Popen(dies_with_parent(command), env=job_environment(settings))
            while True:
                try:
                    return job.wait()
                except KeyboardInterrupt:
                    continue  # the command received the same Ctrl-C and is about to exit
    except JobError as error:
        print(f"stores: failed: {error}", file=sys.stderr)
        return 1


def job_environment(settings: LocalSettings) -> dict[str, str]:
    """The environment of a job: with the rankers that RANKER_URL names, or those of `make demo`, or none."""
    environment = settings.environment()
    named = os.environ.get("RANKER_URL") or settings.ranker_url
    if named == settings.ranker_url and not services_run(settings):
        return {**environment, "NO_RANKER": "true"}
    return {**environment, "RANKER_URL": named}


def dies_with_parent(command: commands.Command) -> commands.Command:
    """On Linux, the command wrapped so that it ends if its parent is killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else command


@contextmanager
def running(
    name: str,
    command: commands.Command,
    settings: LocalSettings,
    environment: Mapping[str, str] = MappingProxyType({}),
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background, with a log file of its own. It is stopped after the block.

    `environment` is added to that of the settings. The process works in `folder`, by default in the current one.
    """
    log_file = _log_file(name, settings)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            dies_with_parent(command),
            env={**settings.environment(), **environment},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the caller only, which stops this process later
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _log_file(name: str, settings: LocalSettings) -> Path:
    return settings.home / "logs" / f"{name}.log"


def _wait_until_it_answers(store: Store, process: subprocess.Popen[bytes], log_file: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not store.answers():
        if process.poll() is not None or time.monotonic() > give_up:
            ended = "ended" if process.poll() is not None else f"did not answer within {START_SECONDS} s"
            last = " | ".join(log_file.read_text(errors="replace").strip().splitlines()[-SHOWN_LOG_LINES:])
            raise JobError(f"{store.name} {ended}; its log {log_file} closes with: {last}")
        time.sleep(0.1)


def _redis_answers(port: int, folder: Path) -> bool:
    client = redis_client.Redis(HOST, port, socket_timeout=1, decode_responses=True)
    try:
        found = Path(str(client.config_get("dir")["dir"]))
    except RedisError:
        return False
    finally:
        client.close()
    if found != folder:
        raise JobError(f"port {port} has a Redis with its data in {found}; stop it, or set REDIS_PORT or REDIS_URL")
    return True


def _mlflow_answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).text == "OK"
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
