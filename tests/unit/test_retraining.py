"""Retraining: runs that are continued, what their outcomes change, when they are due, and what old ones leave."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from events.log_files import LogFiles
from recsys.contracts.event_log import LogTable
from recsys.errors import DataError, JobError
from recsys.web.readiness import OK
from tests.engines import eventually
from training.job import EXIT_INTERRUPTED, EXIT_REFUSED
from training.old_models import remove_old_models
from training.retraining.retrainer import Retrainer
from training.retraining.run import MAX_FAILURES, STEPS, retrain
from training.retraining.schedule import Schedule
from training.retraining.state import Outcome, State

HOUR = 3600.0


class Jobs:
    """Stands in for the jobs: `promote` makes the registered version the champion."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, str]]] = []
        self.champion: int | None = 1
        self.codes: dict[str, int] = {}
        """Exit codes other than 0, each for one call."""
        self.registered: dict[str, int] = {}
        """Version by the data and the start that it was trained from."""

    def __call__(self, step: str, variables: Mapping[str, str]) -> int:
        self.calls.append((step, variables))
        code = self.codes.pop(step, 0)
        training = f"{variables['EVENTS_UNTIL']} {variables['START_FROM']}"
        if code == 0 and step == "register":
            self.registered.setdefault(training, len(self.registered) + 2)
        if code == 0 and step == "promote":
            self.champion = self.registered[training]
        return code

    @property
    def steps(self) -> list[str]:
        return [step for step, _ in self.calls]


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "retraining" / "toy.json"


def run(file: Path, jobs: Jobs, until: datetime | None = None) -> str:
    return retrain(file, lambda: jobs.champion, jobs, until)


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_does_every_step_with_its_own_events_and_start(file: Path, jobs: Jobs) -> None:
    before = datetime.now(UTC)
    assert run(file, jobs).startswith("promoted")
    assert jobs.steps == list(STEPS)
    variables = {frozenset(each.items()) for _, each in jobs.calls}
    assert len(variables) == 1
    given = dict(variables.pop())
    assert before <= datetime.fromisoformat(given.pop("EVENTS_UNTIL")) <= datetime.now(UTC)
    assert given == {"START_FROM": "1", "VERSION": ""}
    state = State.read(file)
    assert state.last is not None
    assert (state.run, state.last.outcome, state.succeeded) == (None, Outcome.PROMOTED, state.last.at)
    assert state.waiting_since == state.last.events_until.timestamp()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_continues_and_ends_with_one_release(step: str, file: Path, jobs: Jobs) -> None:
    """Once right before the step's work is done, and once right after."""

    class Killed(BaseException):
        pass

    def kill(before: bool) -> None:
        def step_until_killed(name: str, variables: Mapping[str, str]) -> int:
            if name == step and before:
                raise Killed
            code = jobs(name, variables)
            if name == step:
                raise Killed
            return code

        with pytest.raises(Killed):
            retrain(file, lambda: jobs.champion, step_until_killed)
        assert State.read(file).run is not None

    kill(before=True)
    kill(before=False)
    assert run(file, jobs).startswith("promoted")
    assert jobs.registered.keys() == {f"{jobs.calls[0][1]['EVENTS_UNTIL']} 1"}, "the runs had other events or starts"
    assert (jobs.champion, State.read(file).run) == (2, None)


def test_an_interrupted_run_is_no_failure(file: Path, jobs: Jobs) -> None:
    jobs.codes["train"] = EXIT_INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        run(file, jobs)
    state = State.read(file)
    assert state.run is not None
    assert (state.run.failures, state.last) == (0, None)


def test_no_run_begins_while_a_promotion_ramps(file: Path, jobs: Jobs) -> None:
    ramp = ["version 1 serves 10%"]
    line = retrain(file, lambda: jobs.champion, jobs, ramping=lambda: ramp[0] if ramp else None)
    assert line.endswith("version 1 serves 10%")
    assert (jobs.calls, file.exists()) == ([], False)
    jobs.codes["train"] = EXIT_INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        run(file, jobs)
    line = retrain(file, lambda: jobs.champion, jobs, ramping=lambda: ramp[0])
    assert line.startswith("promoted"), "a run that is continued may have begun the ramp itself"


def test_a_refused_release_is_an_outcome_and_changes_nothing(file: Path, jobs: Jobs) -> None:
    jobs.codes["promote"] = EXIT_REFUSED
    assert run(file, jobs).startswith("refused")
    assert "seed" not in jobs.steps
    assert jobs.steps[-1] == "prune"
    state = State.read(file)
    assert (jobs.champion, state.run, state.last and state.last.outcome) == (1, None, Outcome.REFUSED)
    assert state.succeeded is not None


def test_without_new_events_the_champion_stays(file: Path, jobs: Jobs) -> None:
    until = datetime(2026, 11, 22, tzinfo=UTC)
    jobs.registered[f"{until.isoformat()} 1"] = 1
    assert run(file, jobs, until).startswith("unchanged")


def test_a_failed_run_is_continued_and_given_up_in_the_end(file: Path, jobs: Jobs) -> None:
    cut_offs = set()
    for attempt in range(1, MAX_FAILURES + 1):
        jobs.codes["evaluate"] = 1
        with pytest.raises(JobError, match=rf"evaluate failed \({attempt} of {MAX_FAILURES} attempts\)"):
            run(file, jobs)
        cut_offs.add(jobs.calls[-1][1]["EVENTS_UNTIL"])
    state = State.read(file)
    assert (len(cut_offs), jobs.champion, state.run, state.succeeded) == (1, 1, None, None)
    assert state.last is not None
    assert (state.last.outcome, state.last.step) == (Outcome.FAILED, "evaluate")
    assert state.waiting_since == state.last.at
    run(file, jobs)
    assert jobs.calls[-1][1]["EVENTS_UNTIL"] not in cut_offs


def test_a_code_of_refusal_from_another_step_is_a_failure(file: Path, jobs: Jobs) -> None:
    jobs.codes["train"] = EXIT_REFUSED
    with pytest.raises(JobError, match="the step train failed"):
        run(file, jobs)


def test_a_given_cut_off_replaces_that_of_an_interrupted_run(file: Path, jobs: Jobs) -> None:
    jobs.codes["train"] = EXIT_INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        run(file, jobs)
    run(file, jobs, datetime(2026, 11, 22, tzinfo=UTC))
    assert jobs.calls[-1][1]["EVENTS_UNTIL"] == "2026-11-22T00:00:00+00:00"


def test_a_state_that_cannot_be_read_is_named(file: Path, jobs: Jobs) -> None:
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(DataError, match=str(file)):
        run(file, jobs)


# --- when it is due ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_events", "events", "hours", "due"),
    [(None, 9, 1, False), (None, 0, 2, True), (10, 9, 1, False), (10, 10, 1, True), (10, 0, 3, True)],
)
def test_a_run_is_due_after_a_time_or_enough_events(
    after_events: int | None, events: int, hours: float, due: bool
) -> None:
    schedule = Schedule(2 * HOUR, after_events)
    assert schedule.due(State(waiting_since=0), events, hours * HOUR) is due


def test_the_pause_after_failures_doubles_up_to_the_time_between_runs() -> None:
    pauses = [Schedule(HOUR, None).pause(failures) for failures in (1, 2, 3, 9, 50)]
    assert pauses == [60, 120, 240, HOUR, HOUR]


# --- the service ------------------------------------------------------------------------------------------------------

JOB = """
import sys, time
from pathlib import Path
from training.retraining.run import retrain
from training.retraining.state import State
def step(name, variables):
    Path(sys.argv[1] + ".steps").open("a").write(name + " " + variables["EVENTS_UNTIL"] + chr(10))
    while name == "train" and sys.argv[2] == "hangs":
        time.sleep(0.01)
    return int(sys.argv[2]) if name == "promote" else 0
def ramping():
    Path(sys.argv[1] + ".asked").touch()
    return "half of the users" if sys.argv[2] == "ramps" else None
print(retrain(Path(sys.argv[1]), lambda: 1, step, ramping=ramping))
"""


@asynccontextmanager
async def retraining(file: Path, does: str, files: LogFiles, schedule: Schedule) -> Any:
    retrainer = Retrainer(
        schedule, file, files, command=(sys.executable, "-c", JOB, str(file), does), check_seconds=0.05
    )
    task = asyncio.create_task(retrainer.run())
    try:
        yield retrainer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tandem_{name}", labels) or 0.0


async def until(condition: Any) -> None:
    await asyncio.to_thread(eventually, condition)


@pytest.fixture
def files(tmp_path: Path) -> LogFiles:
    return LogFiles(str(tmp_path / "log"))


@pytest.fixture(autouse=True)
def from_the_repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    return


def collect(files: LogFiles, number: int) -> None:
    entries = [
        f'{{"event_id": "{event}", "user_id": "u", "item_id": "i", "event": "view", "server_time": {time.time()}}}'
        for event in range(number)
    ]
    files.write(LogTable.EVENTS, 0, "0-0", f"0-{number}", entries)


async def test_enough_collected_events_start_a_run_and_a_refusal_is_ready(file: Path, files: LogFiles) -> None:
    before = metric("retrainings_total", outcome="refused")
    async with retraining(file, str(EXIT_REFUSED), files, Schedule(HOUR, 5)) as retrainer:
        await until(file.exists)
        await asyncio.sleep(0.2)
        assert State.read(file).last is None, "it ran without a reason"
        collect(files, 5)
        await until(lambda: metric("retrainings_total", outcome="refused") == before + 1)
        assert retrainer.problem == OK
        assert retrainer.last_run.startswith("refused by promote")
        await until(lambda: metric("retraining_events_waiting") == 0)


async def test_waiting_for_a_ramp_is_no_failure(file: Path, files: LogFiles) -> None:
    before = metric("retrainings_total", outcome="failed")
    collect(files, 5)
    async with retraining(file, "ramps", files, Schedule(0.01, None)) as retrainer:
        await until(lambda: file.with_name(f"{file.name}.asked").exists())
        await until(lambda: not retrainer.running)
        assert (retrainer.problem, metric("retrainings_total", outcome="failed")) == (OK, before)
    assert State.read(file).run is None


async def test_a_failed_run_is_a_problem_and_waits(file: Path, files: LogFiles) -> None:
    async with retraining(file, "7", files, Schedule(0.2, None)) as retrainer:
        await until(lambda: retrainer.problem != OK)
        assert "failed at promote with exit code 1; it is tried again" in retrainer.problem
        assert metric("retraining_failed") == 1
        await until(lambda: State.read(file).run is None)
        await until(lambda: "given up after 3 attempts" in retrainer.problem)


async def test_a_service_that_stops_interrupts_the_run_and_the_next_one_continues_it(
    file: Path, files: LogFiles
) -> None:
    steps = Path(f"{file}.steps")
    async with retraining(file, "hangs", files, Schedule(0.01, None)) as retrainer:
        await until(lambda: steps.exists() and "train" in steps.read_text())
        assert retrainer.running
    state = State.read(file)
    assert state.run is not None
    assert (state.run.failures, state.last) == (0, None)
    async with retraining(file, "0", files, Schedule(HOUR, None)) as retrainer:
        await until(lambda: State.read(file).last is not None)
    assert len({line.split()[1] for line in steps.read_text().splitlines()}) == 1


# --- old models -------------------------------------------------------------------------------------------------------


def test_of_each_kind_the_newest_are_kept_and_what_serves_or_was_trained_last(tmp_path: Path) -> None:
    models, reports = tmp_path / "models", tmp_path / "reports"
    names = [f"{number:012x}" for number in range(4)]
    for age, name in enumerate(reversed(names)):
        for path in (
            models / name,
            models / f"towers-{name}",
            models / f"sequences-{name}-temporal-v2",
            reports / name,
        ):
            path.mkdir(parents=True)
            os.utime(path, (1e9 - age, 1e9 - age))
    for other in (models / "temporal", models / "notes", reports / "rolling"):
        other.mkdir()
    (models / "latest_towers").write_text(f"towers-{names[0]}\n")
    (models / f"towers-{names[0]}.lock").touch()
    removed = remove_old_models(models, reports, 2, {names[1]})
    assert removed == sorted(
        [names[0], f"towers-{names[1]}", *(f"sequences-{names[n]}-temporal-v2" for n in (0, 1)), names[0]]
    )
    left = {path.name for path in models.iterdir()}
    assert left >= {"temporal", "notes", names[1], names[2], names[3], f"towers-{names[0]}", f"towers-{names[0]}.lock"}
    assert remove_old_models(models, tmp_path / "none", 2, {names[1]}) == []
