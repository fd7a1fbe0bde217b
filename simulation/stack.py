"""The real stack, which only this simulation uses: stores, services, the guard and the jobs, on free ports."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.stack import Jobs, Services
from events.log_files import LogFiles
from local.own_stack import own_settings
from local.settings import LocalSettings
from local.stores import stores_running
from recsys.clock import ClockFile
from recsys.contracts.event_log import LogTable
from recsys.errors import JobError
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release_manifest import ReleaseManifest
from simulation.plan import Plan
from simulation.shop_files import unix_time
from training.promotion.ramp import running_ramp
from training.retraining.run import PRUNE, SEED, STEPS

DATASET = "csv"
SERVICES = ("feature_service", "collector", "ranker_service", "orchestrator", "guard")
FIRST_RELEASE = [step for step in STEPS if step != PRUNE]
RELEASE_OF_OTHER_DATA = [step for step in FIRST_RELEASE if step != SEED]
"""Jobs, in order."""
COLLECTED_SECONDS = 120.0


@dataclass
class Stack:
    settings: LocalSettings
    clock: ClockFile
    jobs: Jobs
    registry: ModelRegistry
    source: Path
    """The shop's own files."""
    data: Path

    @property
    def champion(self) -> int:
        return self.registry.aliases()[CHAMPION]

    @property
    def ramps(self) -> bool:
        return running_ramp(self.registry) is not None

    async def collected(self, since: float, events: int) -> None:
        """Wait until this many events since then are in the files, which is all that a retraining sees.

        Raises JobError if they are not in time, or if there are more.
        """
        files = LogFiles(str(self.settings.event_log))
        give_up = time.monotonic() + COLLECTED_SECONDS
        times = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(self.clock.now() + 1, UTC)
        while (found := files.count(LogTable.EVENTS, *times)) != events:
            if found > events or time.monotonic() > give_up:
                raise JobError(f"{events:,} events were acknowledged, and {found:,} are in the event log")
            await asyncio.sleep(1)

    async def promote_again(self, ramp: str) -> int:
        """Register the champion's files once more, and promote that version with a ramp; returns the version."""
        with tempfile.TemporaryDirectory() as scratch:
            served, measured = Path(scratch) / "served", Path(scratch) / "measured"
            for directory, fetch in ((served, self.registry.fetch), (measured, self.registry.fetch_validation_fit)):
                directory.mkdir()
                fetch(self.champion, directory)
            manifest = ReleaseManifest.read(served)
            version = self.registry.register(
                manifest, served, params={}, history=[], report=None, validation_fit=measured
            )
        await self.jobs.run("promote", VERSION=str(version), RAMP=ramp, FORCE="1")
        return version


def environment_of_services(plan: Plan) -> dict[str, str]:
    """Time is fast here: an hour of the visitors takes a second. So what is set in real time is short, and what is set
    in the visitors' time is long."""
    return {
        "COLLECTOR_SECONDS": "2",
        "REPORT_SECONDS": "600",
        "GUARD_SECONDS": "1",
        "GUARD_STEP_IMPRESSIONS": str(plan.guard_step_impressions),
        "GUARD_BLIND_MINUTES": str(2 * 24 * 60),
        "ORCHESTRATOR_DEADLINE_MS": "5000",  # other work on the machine must not lower tiers
    }


@contextmanager
def stack_running(folder: Path, plan: Plan) -> Iterator[Stack]:
    """Everything runs, without any release. Raises JobError if a store does not start."""
    clock = ClockFile(folder / "clock", unix_time(plan.opening_day))
    settings = own_settings(folder / "state", DATASET, {"clock_file": clock.path})
    data, source = folder / "data", folder / "shop"
    for needed in (data, source):
        needed.mkdir(parents=True)
    environment = {
        **settings.environment(),
        "DATASET": DATASET,
        "DATA_DIR": str(data),
        "DATA_SOURCE": str(source),
        "TRAIN_MINUTES": str(plan.train_minutes),
        "VERSION": "",
    }
    with ExitStack() as stack:
        stack.enter_context(stores_running(settings))
        services = stack.enter_context(closing(Services(settings, None)))
        for name in SERVICES:
            services.start(name, environment_of_services(plan))
        jobs = Jobs(environment, folder / "jobs.log")
        yield Stack(settings, clock, jobs, ModelRegistry(settings.mlflow_url), source, data)
