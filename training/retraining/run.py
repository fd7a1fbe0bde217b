"""One retraining: every job once, in order, each in a process of its own.

A run is recorded before its first step. If it is killed, the next one continues it, with the same events and the same
start, so that finished steps have nothing to do. A run that failed MAX_FAILURES times is given up.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from recsys import clock
from recsys.errors import JobError
from training.atomic import exclusive_lock
from training.job import EXIT_INTERRUPTED, EXIT_REFUSED
from training.retraining.state import Ended, Outcome, Run, State

PREPARATION = ("prepare", "train", "train_second_stage", "evaluate", "final_fit", "register")
PROMOTE, SEED, PRUNE = "promote", "seed", "prune"
STEPS = (*PREPARATION, PROMOTE, SEED, PRUNE)
"""`promote` compares before it builds a collection, so a worse release leaves nothing behind but its version."""
MAX_FAILURES = 3

RunStep = Callable[[str, Mapping[str, str]], int]
"""Runs a job with these additional variables and returns its exit code."""


def retrain(
    file: Path,
    champion: Callable[[], int | None],
    run_step: RunStep,
    until: datetime | None = None,
    *,
    ramping: Callable[[], object | None] = lambda: None,
) -> str:
    """Begin a run, or continue the one in `file`; returns a line about it. Another process's run is waited for.

    until: the cut-off of the events, by default now, or that of the run that is continued. ramping: a promotion that
    has not reached all users; no run begins before it ends, because its release could not be promoted. Raises JobError
    if a step fails.
    """
    asked = clock.now()
    with exclusive_lock(file):
        state = State.read(file)
        if state.last is not None and state.last.at > asked and state.last.outcome != Outcome.FAILED:
            return f"another run has just ended: {state.last.outcome}"
        run = state.run
        if run is None and (promotion := ramping()) is not None:
            return f"nothing is trained while a promotion ramps: {promotion}"
        if run is None or (until is not None and until != run.events_until):
            began = clock.now()
            run = Run(events_until=until or datetime.fromtimestamp(began, UTC), start_from=champion(), began=began)
            print(f"retrain: events until {run.events_until:%Y-%m-%d %H:%M:%S} UTC", flush=True)
        else:
            print(f"retrain: continuing the run of {run.events_until:%Y-%m-%d %H:%M:%S} UTC", flush=True)
        state = state.model_copy(update={"run": run})
        state.write(file)
        outcome, step = _steps(run, run_step)
        if outcome is Outcome.PROMOTED and champion() == run.start_from:
            outcome = Outcome.UNCHANGED
        _ended(state, run, outcome, step).write(file)
    if outcome is Outcome.FAILED:
        attempts = f"{run.failures + 1} of {MAX_FAILURES} attempts"
        raise JobError(f"the step {step} failed ({attempts}); the champion stays")
    return f"{outcome}, after {(clock.now() - run.began) / 60:.1f} minutes"


def run_job_step(step: str, variables: Mapping[str, str], environment: Mapping[str, str]) -> int:
    """Run `training.jobs.<step>`; its output is that of this process."""
    command = [sys.executable, "-m", f"training.jobs.{step}"]
    return subprocess.call(command, env={**environment, **variables})


def _steps(run: Run, run_step: RunStep) -> tuple[Outcome, str]:
    """How the run ends, and the step that decided it. Raises KeyboardInterrupt if a step is interrupted."""
    variables = {
        "EVENTS_UNTIL": run.events_until.isoformat(),
        "START_FROM": "" if run.start_from is None else str(run.start_from),
        "VERSION": "",  # the one that this run registers
    }
    outcome, decisive = Outcome.PROMOTED, PROMOTE
    for place, step in enumerate(STEPS, start=1):
        if step == SEED and outcome is Outcome.REFUSED:
            continue
        print(f"retrain: step {place} of {len(STEPS)}: {step}", flush=True)
        code = run_step(step, variables)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if step == PROMOTE and code == EXIT_REFUSED:
            outcome = Outcome.REFUSED
        elif code != 0:
            return Outcome.FAILED, step
    return outcome, decisive


def _ended(state: State, run: Run, outcome: Outcome, step: str) -> State:
    """The state after the run; a run that failed remains, unless it failed too often."""
    now = clock.now()
    last = Ended(outcome=outcome, step=step, events_until=run.events_until, began=run.began, at=now)
    if outcome is Outcome.FAILED:
        failed = run.model_copy(update={"failures": run.failures + 1})
        if failed.failures < MAX_FAILURES:
            return state.model_copy(update={"run": failed, "last": last})
        return state.model_copy(update={"run": None, "last": last, "waiting_since": now})
    waiting_since = run.events_until.timestamp()
    return State(run=None, last=last, succeeded=now, waiting_since=waiting_since)
