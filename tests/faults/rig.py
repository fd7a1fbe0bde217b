"""The whole stack with a fault proxy in front of every part, and the first release of the toy shop."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local.settings import HOST, LocalSettings
from local.tour import is_whole
from tests import toy
from tests.engines import Process, ServiceProcess, eventually, local_settings, qdrant_stand_in_or_skip
from tests.fault_proxy import FaultProxy
from training.jobs.index import index
from training.jobs.promote import promote
from training.jobs.register import register
from training.jobs.seed import seed

SERVICES = ("feature_service", "ranker_service", "orchestrator")
PARTS = ("redis", "qdrant", "mlflow", *SERVICES)
STARTED = (*PARTS, "collector")
"""Nobody calls the collector, so no proxy is in front of it."""
AS_DELIVERED = {"ORCHESTRATOR_DEADLINE_MS": "", "ORCHESTRATOR_REFRESH_SECONDS": "", "RANKER_POLL_SECONDS": ""}
"""Deadlines and polling intervals are those of production."""
SMALL = {"ORCHESTRATOR_NUM_CANDIDATES": "30"}
"""Half of the toy shop, because the Qdrant stand-in takes 0.2 ms per item."""


@dataclass(frozen=True)
class Rig:
    settings: LocalSettings
    """The processes listen on its ports."""
    proxies: dict[str, FaultProxy]
    """By the part behind it. All calls go through a proxy."""
    processes: dict[str, Process]
    addresses: dict[str, str]
    """Environment variables with the addresses of the proxies."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.proxies['orchestrator'].port}"

    def replica(self, name: str, port_setting: str, folder: Path) -> tuple[Process, int]:
        """A second process of a service and its port. No proxy forwards to it yet."""
        settings = local_settings(folder)
        return ServiceProcess(name, settings, **AS_DELIVERED, **SMALL, **self.addresses), getattr(
            settings, port_setting
        )

    def wait_until_well(self) -> None:
        """Wait until every service is ready and reports no problem."""
        eventually(self.is_well, "not everything became ready", self.problems)

    def is_well(self) -> bool:
        return not self.problems()

    def problems(self) -> str:
        urls = (self.settings.orchestrator_url, self.settings.feature_service_url, self.settings.ranker_url)
        return "\n".join(filter(None, map(_problem, urls)))


def _problem(url: str) -> str | None:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5)
    except httpx.HTTPError as error:
        return f"{url}: {error!r}"
    return None if is_whole(answer) and "but:" not in answer.text else f"{url}: {answer.text}"


@contextmanager
def wired(folder: Path) -> Iterator[Rig]:
    """A rig whose processes are not started yet. Those that are started are stopped after the block."""
    settings = local_settings(folder / "run")
    with ExitStack() as stack:
        qdrant = qdrant_stand_in_or_skip(folder / "qdrant")
        stack.callback(qdrant.stop)
        ports = {
            "redis": settings.redis_port,
            "qdrant": qdrant.port,
            "mlflow": settings.mlflow_port,
            "feature_service": settings.feature_service_port,
            "ranker_service": settings.ranker_port,
            "orchestrator": settings.orchestrator_port,
        }
        proxies = {name: FaultProxy(port) for name, port in ports.items()}
        for proxy in proxies.values():
            stack.callback(proxy.close)
        here = {name: f"http://{HOST}:{proxy.port}" for name, proxy in proxies.items()}
        addresses = {
            "REDIS_URL": f"redis://{HOST}:{proxies['redis'].port}/0",
            "QDRANT_URL": here["qdrant"],
            "MLFLOW_TRACKING_URI": here["mlflow"],
            "FEATURE_SERVICE_URL": here["feature_service"],
            "RANKER_URL": here["ranker_service"],
        }
        processes: dict[str, Process] = {"qdrant": qdrant}
        for name in STARTED:
            if name != "qdrant":
                processes[name] = ServiceProcess(name, settings, **AS_DELIVERED, **SMALL, **addresses)
            stack.callback(processes[name].stop)
        yield Rig(settings, proxies, processes, addresses)


def release(rig: Rig, folder: Path) -> None:
    """Run the jobs that make the first release, with precomputed lists, beside the running rig."""
    jobs = toy.job_settings(folder)
    toy.write_prepared(jobs)
    toy.write_model(jobs, "first", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        for name, address in rig.addresses.items():
            patch.setenv(name, address)
        for job in (register, index, seed, promote):
            job(jobs)
