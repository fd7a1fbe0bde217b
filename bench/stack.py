"""A stack that only a benchmark uses: real stores and services on free ports, with state in a temporary folder."""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from local import commands
from local.own_stack import own_settings
from local.settings import LocalSettings
from local.stores import dies_with_parent, running, stores_running
from local.tour import is_whole, wait_until_ready
from recsys.errors import JobError
from training.settings import JobSettings

PREPARATION: dict[str, dict[str, str]] = {
    "prepare": {},
    "train": {"TRAIN_MINUTES": "2"},
    "train_second_stage": {"TRAIN_MINUTES": "15"},  # a limit for busy machines; the second stage takes a part of it
    "evaluate": {},
    "final_fit": {},
}
"""The jobs that leave a release to serve, in their order, with their variables."""
SERVICES = ("feature_service", "collector", "ranker_service", "orchestrator")
STORES = ("redis", "mlflow")
NICENESS = ("nice", "-n", "10")
"""In production, jobs do not take the CPU of the services."""
SHOWN_LINES = 3
START_SECONDS = 300
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Jobs:
    """Runs jobs as commands, as a user does."""

    environment: Mapping[str, str]
    log_file: Path
    code: Path | None = None
    """The folder of another version of Tandem, whose jobs are run."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long the last run of each job took, with the start of its process."""

    async def run(self, name: str, **environment: str) -> str:
        """The job's line of result. Raises JobError, with the end of its output, if it fails."""
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *dies_with_parent([*NICENESS, sys.executable, "-m", f"training.jobs.{name}"]),
            env={**self.environment, **environment},
            cwd=self.code,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output = (await process.communicate())[0].decode(errors="replace")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(output)
        self.seconds[name] = time.monotonic() - started
        lines = output.strip().splitlines()
        if process.returncode:
            raise JobError(f"the job {name} failed: {' | '.join(lines[-SHOWN_LINES:])}")
        return lines[-1] if lines else ""


class Services:
    """The processes of the services, each of which can be restarted."""

    def __init__(self, settings: LocalSettings, code: Path | None) -> None:
        """`code` is the folder of another version of Tandem, whose services are started."""
        self._settings = settings
        self._code = code
        self._running: dict[str, ExitStack] = {}

    def start(self, name: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._running[name] = ExitStack()
        command = getattr(commands, name)(self._settings)
        self._running[name].enter_context(running(name, command, self._settings, environment, self._code))

    def restart(self, name: str, environment: Mapping[str, str] = MappingProxyType({})) -> float:
        """Seconds from the start of the process until it is ready and misses nothing."""
        urls = {
            "feature_service": self._settings.feature_service_url,
            "ranker_service": self._settings.ranker_url,
            "orchestrator": self._settings.orchestrator_url,
        }
        self._running[name].close()
        with httpx.Client(base_url=urls[name], timeout=5) as client:
            started = time.monotonic()
            self.start(name, environment)
            while not _is_ready(client):
                if time.monotonic() > started + START_SECONDS:
                    raise JobError(f"{name} was not ready {START_SECONDS} s after its restart")
                time.sleep(POLL_SECONDS)
            return time.monotonic() - started

    def close(self) -> None:
        for each in reversed(self._running.values()):
            each.close()


@dataclass(frozen=True, slots=True)
class Stack:
    settings: LocalSettings
    data: JobSettings
    jobs: Jobs
    services: Services

    @property
    def folders(self) -> dict[str, Path]:
        """What the processes keep on disk, by name."""
        home = self.settings.home
        return {
            "copies of releases": home / "releases",
            "Qdrant collections": home / "qdrant",
            "Redis append-only file": home / "redis",
            "MLflow": home / "mlflow",
        }


@dataclass(frozen=True, slots=True)
class DataSet:
    name: str
    """As in DATASET."""
    kept_in: str
    """The subfolder of the state folder that keeps the prepared release for the next run."""
    source: Path | None = None

    @property
    def kept(self) -> Path:
        return LocalSettings().state_dir.resolve() / self.kept_in

    def variables(self, data_dir: Path) -> dict[str, str]:
        source = {} if self.source is None else {"DATA_SOURCE": str(self.source)}
        return {"DATASET": self.name, "DATA_DIR": str(data_dir), "VERSION": "", **source}


@contextmanager
def stack_running(
    folder: Path,
    data_set: DataSet,
    more_settings: Mapping[str, Any] = MappingProxyType({}),
    code: Path | None = None,
) -> Iterator[Stack]:
    """Prepare a release, start everything, and serve the release. Raises JobError if any of it fails.

    `code` is the folder of another version of Tandem, whose jobs and services are run.
    """
    settings = own_settings(folder, data_set.name, more_settings)
    (folder / "logs").mkdir()
    jobs = Jobs({**settings.environment(), **data_set.variables(folder / "data")}, folder / "logs/jobs.log", code)
    for name, variables in PREPARATION.items():
        if code is not None and not (code / f"training/jobs/{name}.py").exists():
            continue  # an earlier version does without it
        _run(jobs, name, **data_set.variables(data_set.kept), **variables)
    shutil.copytree(data_set.kept, folder / "data")
    with ExitStack() as stack:
        stack.enter_context(stores_running(settings))
        services = stack.enter_context(closing(Services(settings, code)))
        for name in SERVICES:
            services.start(name)
        _wait_until_alive(settings)
        for name in ("register", "index", "seed", "promote"):
            _run(jobs, name)
        wait_until_ready(settings)
        data = JobSettings.model_validate({"dataset": data_set.name, "data_dir": folder / "data"})
        yield Stack(settings, data, jobs, services)


def service_processes(settings: LocalSettings) -> dict[str, psutil.Process]:
    """Every process of the stack by name. Child processes are named after their parent."""
    ports = {
        "redis": settings.redis_port,
        "mlflow": settings.mlflow_port,
        "feature_service": settings.feature_service_port,
        "collector": settings.collector_port,
        "ranker_service": settings.ranker_port,
        "orchestrator": settings.orchestrator_port,
    }
    found: dict[str, psutil.Process] = {}
    for process in psutil.Process().children():
        for name, port in ports.items():
            if any(str(port) in word for word in process.cmdline()):
                found[name] = process
                for number, child in enumerate(process.children(recursive=True), start=1):
                    found[f"{name}, worker {number}"] = child
    missing = ports.keys() - found.keys()
    if missing:
        raise JobError(f"no process of {', '.join(sorted(missing))} was found")
    return found


def _run(jobs: Jobs, name: str, **environment: str) -> None:
    print(asyncio.run(jobs.run(name, **environment)), flush=True)


def _wait_until_alive(settings: LocalSettings) -> None:
    """Wait until every service answers, ready or not, because the job `promote` asks the ranker."""
    give_up = time.monotonic() + START_SECONDS
    for url in (settings.feature_service_url, settings.ranker_url, settings.orchestrator_url):
        while not _is_alive(url):
            if time.monotonic() > give_up:
                raise JobError(f"{url} did not answer within {START_SECONDS} s; its log is in {settings.home / 'logs'}")
            time.sleep(0.2)


def _is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _is_ready(client: httpx.Client) -> bool:
    try:
        return is_whole(client.get("/readyz"))
    except httpx.HTTPError:
        return False
