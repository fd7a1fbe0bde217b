"""`make soak`: traffic, promotions and new users for half an hour; fails if a process keeps growing after the warm-up.

Ctrl-C prints the table of what was measured so far, with exit code 130.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import aiohttp
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError
from redis import Redis
from tqdm import tqdm

from bench.settings import SoakSettings
from bench.soak.promotions import Promotions
from bench.soak.report import MARKER, Outcome
from bench.soak.samples import MIB, Quantity, Sampler, keys_by_kind
from bench.soak.traffic import Traffic
from bench.stack import DataSet, Stack, service_processes, stack_running
from bench.tables import write_between_markers
from local.settings import HOST
from recsys.errors import TandemError
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE

DATA_SET = DataSet("shop", kept_in="soak")
INTERRUPTED = 130
PROGRESS_SECONDS = 30.0


class Soak:
    """One run against a running stack. Its measurements are readable at any time."""

    def __init__(self, settings: SoakSettings, stack: Stack, redis: "Redis") -> None:
        self.settings = settings
        self.url = stack.settings.orchestrator_url
        self.promotions = Promotions(stack.jobs, stack.data.models_dir)
        self.traffic = Traffic(settings, *popularity(stack), lambda: self.promotions.running)
        processes = service_processes(stack.settings)
        self.sampler = Sampler(processes, redis, stack.folders, lambda: self.all_arrived)
        self._redis = redis
        self._started = time.monotonic()

    @property
    def all_arrived(self) -> bool:
        return self.traffic.counts.arrived >= self.settings.idle_users

    @property
    def seconds(self) -> float:
        """Since the traffic started."""
        return time.monotonic() - self._started

    async def run(self) -> None:
        seconds = self.settings.soak_minutes * 60
        async with aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0)) as session:
            with tqdm(total=self.settings.soak_active_users, unit="user", desc="fill", mininterval=5) as progress:
                await self.traffic.fill(session, progress.update)
            self._started = time.monotonic()
            async with asyncio.TaskGroup() as group:
                endless = [
                    group.create_task(self.traffic.visit_pages(session)),
                    group.create_task(self.sampler.run(seconds)),
                    group.create_task(self._show_progress(seconds)),
                ]
                finite = [
                    group.create_task(self.promotions.run(self.settings.soak_promotions, seconds)),
                    group.create_task(self.traffic.send_events(session, seconds)),
                ]
                await asyncio.wait(finite)
                for each in endless:
                    each.cancel()

    def outcome(self) -> Outcome:
        return Outcome(
            self.settings,
            self.sampler.samples,
            self.traffic.counts,
            self.promotions.seconds,
            keys_by_kind(self._redis),
            self.seconds,
        )

    async def _show_progress(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            counts, settings, elapsed = self.traffic.counts, self.settings, self.seconds
            promoted = len(self.promotions.seconds)
            done = min(counts.recorded / settings.soak_events, promoted / settings.soak_promotions)
            left = max(seconds - elapsed, elapsed / done - elapsed if done else 0)
            memory = ", ".join(
                f"{name} {values[-1] / MIB:.0f}"
                for (quantity, name), values in self.sampler.samples.values.items()
                if quantity == Quantity.MEMORY
            )
            print(
                f"{elapsed / 60:.1f} min, about {left / 60:.0f} left: {counts.recorded:,} of {settings.soak_events:,} "
                f"events ({counts.recorded / elapsed:,.0f}/s), {promoted} of {settings.soak_promotions} promotions, "
                f"{counts.requests / elapsed:.0f} requests/s, {counts.lowered.total()} of a lower tier; MiB: {memory}",
                flush=True,
            )


def popularity(stack: Stack) -> tuple[list[str], NDArray[np.float64]]:
    """The items of the catalogue, and the share of each in the events of the log."""
    items = pl.read_parquet(stack.data.processed_dir / CATALOGUE_FILE, columns=["item_id"])
    log = pl.scan_parquet(stack.data.processed_dir / INTERACTIONS_FILE).group_by("item_id").len().collect()
    counts = items.join(log, on="item_id", how="left", maintain_order="left")["len"].fill_null(0).to_numpy()
    return items["item_id"].to_list(), counts / counts.sum()


def main() -> int:
    try:
        settings = SoakSettings()
    except ValidationError as error:
        print(f"soak: failed: {'; '.join(each['msg'] for each in error.errors())}", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="tandem-soak-"))
    try:
        code = soak(settings, folder)
    except* TandemError as errors:
        code = 1
        print(f"soak: failed: {first_of(errors)}", file=sys.stderr)
    except* KeyboardInterrupt:
        code = INTERRUPTED
        print("soak: interrupted", file=sys.stderr)
    if code == 1:
        print(f"soak: the logs are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return code


def soak(settings: SoakSettings, folder: Path) -> int:
    """Run a soak and report it; the exit code. Raises TandemError and KeyboardInterrupt, also in groups."""
    with ExitStack() as exits:
        stack = exits.enter_context(stack_running(folder, DATA_SET))
        redis = exits.enter_context(closing(Redis(HOST, stack.settings.redis_port, decode_responses=True)))
        run = Soak(settings, stack, redis)
        try:
            asyncio.run(run.run())
        finally:
            outcome = run.outcome()
            if outcome.samples.seconds:
                print(f"\n{outcome.table()}\n\n{outcome.summary()}\n", flush=True)
                outcome.write_json()
    problems = outcome.problems()
    for problem in problems:
        print(f"soak: failed: {problem}", file=sys.stderr)
    if not problems and settings.soak_table is not None:
        write_between_markers(settings.soak_table, MARKER, f"{outcome.table()}\n\n{outcome.summary()}")
    return 1 if problems else 0


def first_of(errors: BaseExceptionGroup[TandemError]) -> BaseException:
    """The first error in a group of groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
