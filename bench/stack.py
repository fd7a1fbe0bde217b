"""A stack that only a benchmark uses: real stores and services on free ports, with state in a temporary folder."""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from local import commands
from local.own_stack import own_settings
from local.settings import LocalSettings
from local.stores import dies_with_parent, running, stores_running
from local.tour import wait_until_ready
from recsys.errors import JobError
from training.settings import JobSettings

PREPARATION: dict[str, dict[str, str]] = {
    "prepare": {},
    "train": {"TRAIN_MINUTES": "2"},
    "train_second_stage": {"TRAIN_MINUTES": "15"},  # a limit for busy machines; the second stage takes a part of it
    "evaluate": {},
}
"""The jobs that leave a release to serve, in their order, with their variables."""
SERVICES = ("feature_service", "collector", "ranker_service", "orchestrator")
STORES = ("redis", "mlflow")
NICENESS = ("nice", "-n", "10")
"""In production, jobs do not take the CPU of the services."""
SHOWN_LINES = 3
START_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Jobs:
    """Runs jobs as commands, as a user does."""

    environment: Mapping[str, str]
    log_file: Path

    async def run(self, name: str, **environment: str) -> str:
        """The job's line of result. Raises JobError, with the end of its output, if it fails."""
        process = await asyncio.create_subprocess_exec(
            *dies_with_parent([*NICENESS, sys.executable, "-m", f"training.jobs.{name}"]),
            env={**self.environment, **environment},
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
        lines = output.strip().splitlines()
        if process.returncode:
            raise JobError(f"the job {name} failed: {' | '.join(lines[-SHOWN_LINES:])}")
        return lines[-1] if lines else ""


@dataclass(frozen=True, slots=True)
class Stack:
    settings: LocalSettings
    data: JobSettings
    jobs: Jobs

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
        return LocalSettings().state_dir / self.kept_in

    def variables(self, data_dir: Path) -> dict[str, str]:
        source = {} if self.source is None else {"DATA_SOURCE": str(self.source)}
        return {"DATASET": self.name, "DATA_DIR": str(data_dir), "VERSION": "", **source}


@contextmanager
def stack_running(
    folder: Path, data_set: DataSet, more_settings: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Stack]:
    """Prepare a release, start everything, and serve the release. Raises JobError if any of it fails."""
    settings = own_settings(folder, data_set.name, more_settings)
    (folder / "logs").mkdir()
    jobs = Jobs({**settings.environment(), **data_set.variables(folder / "data")}, folder / "logs/jobs.log")
    for name, variables in PREPARATION.items():
        _run(jobs, name, **data_set.variables(data_set.kept), **variables)
    shutil.copytree(data_set.kept, folder / "data")
    with ExitStack() as stack:
        stack.enter_context(stores_running(settings))
        for name in SERVICES:
            stack.enter_context(running(name, getattr(commands, name)(settings), settings))
        _wait_until_alive(settings)
        for name in ("register", "index", "seed", "promote"):
            _run(jobs, name)
        with httpx.Client(timeout=10) as client:
            problem = wait_until_ready(client, settings)
        if problem is not None:
            raise JobError(problem)
        data = JobSettings.model_validate({"dataset": data_set.name, "data_dir": folder / "data"})
        yield Stack(settings, data, jobs)


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
