"""The retrainer: starts `training.jobs.retrain` when a run is due, one at a time, in a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from events.log_files import LogFiles
from recsys import clock
from recsys.contracts.event_log import LogTable
from recsys.web.readiness import OK
from training.retraining.run import MAX_FAILURES
from training.retraining.schedule import Schedule
from training.retraining.state import Outcome, State

CHECK_SECONDS = 60.0
RAMP_PAUSE_SECONDS = 600.0
"""Until the next attempt, if a promotion ramped."""
STOP_SECONDS = 5.0
"""How long a run that is asked to stop may take. After that it is killed, which it survives as well."""
COMMAND = (sys.executable, "-m", "training.jobs.retrain")

RUNS = Counter("tandem_retrainings_total", "Runs of the retrainer that ended.", ["outcome"])
RUNNING = Gauge("tandem_retraining_running", "1 while a run goes on.")
FAILED = Gauge("tandem_retraining_failed", "1 if the last run failed; a release that was refused is no failure.")
SUCCEEDED = Gauge(
    "tandem_retraining_succeeded_timestamp_seconds", "When a run last ended without a failure; before, the first start."
)
EVERY = Gauge("tandem_retraining_every_seconds", "The longest time between two runs.")
EVENTS = Gauge("tandem_retraining_events_waiting", "Collected events since the cut-off of the last run.")

log = structlog.get_logger()


class Retrainer:
    def __init__(
        self,
        schedule: Schedule,
        file: Path,
        files: LogFiles,
        *,
        command: Sequence[str] = COMMAND,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """file: the state that the job writes."""
        self._schedule = schedule
        self._file = file
        self._files = files
        self._command = command
        self._check_seconds = check_seconds
        self._failures = 0
        self._not_before = 0.0
        self.problem = OK
        """`ok`, or why the last run failed."""
        self.running = False
        self.last_run = "none since this service has a state"
        EVERY.set(schedule.every_seconds)

    async def run(self) -> None:
        """Check for ever whether a run is due. What fails is tried again, even if it failed because of a bug."""
        while True:
            try:
                await self._check()
            except Exception as error:
                self._fail(f"the check failed: {type(error).__name__}")
                log.exception("retraining_not_checked")
            await asyncio.sleep(self._check_seconds)

    async def _check(self) -> None:
        now = clock.now()
        state = await asyncio.to_thread(self._read)
        events = await asyncio.to_thread(self._count, state.waiting_since, now)
        EVENTS.set(events)
        if now >= self._not_before and self._schedule.due(state, events, now):
            log.info("retraining_starts", events=events, continues=state.run is not None)
            code = await self._retrain()
            self._ended(await asyncio.to_thread(self._read), code, began=now)

    def _read(self) -> State:
        state = State.read(self._file)
        if not self._file.exists():  # the time of the first start is what the first run waits from
            state.write(self._file)
        SUCCEEDED.set(state.succeeded or state.waiting_since)
        if state.last is not None:
            at = datetime.fromtimestamp(state.last.at, UTC)
            self.last_run = f"{state.last.outcome} by {state.last.step}, {at:%Y-%m-%d %H:%M} UTC"
        return state

    def _count(self, since: float, now: float) -> int:
        """Scans every file of the days since then."""
        return self._files.count(LogTable.EVENTS, datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(now, UTC))

    async def _retrain(self) -> int:
        """The exit code of the job."""
        environment = {**os.environ, "EVENTS_UNTIL": ""}  # each run has its own cut-off
        process = await asyncio.create_subprocess_exec(*self._command, env=environment, start_new_session=True)
        self.running = True
        RUNNING.set(1)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        finally:
            self.running = False
            RUNNING.set(0)

    def _ended(self, state: State, code: int, began: float) -> None:
        recorded = state.last is not None and state.last.at >= began
        if code == 0 and not recorded:
            self._not_before = clock.now() + RAMP_PAUSE_SECONDS
            log.info("retraining_waits_for_a_ramp")
            return
        if code == 0 and state.last is not None:
            self._failures, self.problem = 0, OK
            FAILED.set(0)
            RUNS.labels(state.last.outcome).inc()
            log.info("retraining_ended", outcome=state.last.outcome)
            return
        step = state.last.step if recorded and state.last is not None else "the beginning"
        left = "it is tried again" if state.run is not None else f"given up after {MAX_FAILURES} attempts"
        self._fail(f"the last run failed at {step} with exit code {code}; {left}, and the log says why")
        RUNS.labels(Outcome.FAILED).inc()
        log.error("retraining_failed", step=step, code=code)

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._failures += 1
        self._not_before = clock.now() + self._schedule.pause(self._failures)
        FAILED.set(1)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Interrupt the job and the step that it runs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
