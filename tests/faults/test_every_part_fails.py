"""Each part in turn is killed, frozen, slowed down, made to reset connections and to respond with garbage, under load.

Every response is valid and has the right tier during the fault. After it, full service returns within seconds and
without a restart. The table of measurements is printed, and `make faults` writes it to docs/reliability.md.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import psutil
import pytest

from orchestrator.settings import OrchestratorSettings
from tests.engines import eventually
from tests.faults import table
from tests.faults.expected import Answered, Kind
from tests.faults.faults import (
    FULL,
    STAGES,
    WITHOUT,
    Expected,
    Fault,
    faults_of,
    is_right,
    is_right_in_transition,
    was_crowded_out,
)
from tests.faults.load import Load
from tests.faults.rig import Rig

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "2"))
BEFORE_SECONDS = 0.5
RECOVERY_SECONDS = 5.0
SETTLED_SECONDS = 1.0
"""Full service must last this long to count as recovered."""
DEADLINE_MS = float(OrchestratorSettings.model_fields["deadline_ms"].default)
LATE_MS, VERY_LATE_MS = DEADLINE_MS + 10, DEADLINE_MS + 100
LEAST_IN_TIME = 0.95
MOST_CROWDED_OUT = 0.2
"""Limits for a machine that also runs other work. The table in docs/reliability.md has the guaranteed numbers."""
SHOWN = 5

CELLS = [(part, fault) for part in WITHOUT for fault in faults_of(part)]


@pytest.fixture(scope="module")
def rows() -> Iterator[list[table.Row]]:
    """The measurements, shown after the last test."""
    rows: list[table.Row] = []
    yield rows
    table.show(rows)


@pytest.mark.parametrize(("part", "fault"), CELLS, ids=[f"{part}-{fault.name}" for part, fault in CELLS])
def test_every_answer_is_valid_and_right_while_a_part_fails(
    rig: Rig, rows: list[table.Row], part: str, fault: Fault
) -> None:
    rig.wait_until_well()
    process, proxy = rig.processes[part], rig.proxies[part]
    with Load(rig.url) as load:
        load.wait_until(_full_for_a_while(time.perf_counter(), BEFORE_SECONDS), RECOVERY_SECONDS)
        fault.begin(process, proxy)
        begun = time.perf_counter()
        psutil.cpu_percent()
        try:
            time.sleep(FAULT_SECONDS)
        finally:
            cpu = psutil.cpu_percent() / 100
            ending = time.perf_counter()
            fault.end(process, proxy)
        ended = time.perf_counter()
        load.wait_until(_full_for_a_while(ended, SETTLED_SECONDS), RECOVERY_SECONDS + SETTLED_SECONDS)
    rig.wait_until_well()

    # A starting process takes CPU from the others: requests in flight during a restart must be valid, but may be late.
    timely = [each for each in load.answers if each.received <= ending or each.sent >= ended]
    during = [each for each in timely if begun <= each.sent < ending]
    right = FULL if fault.endurable else WITHOUT[part]
    lost = () if fault.endurable else STAGES[part]
    crowded = {id(each) for each in timely if was_crowded_out(each, lost, DEADLINE_MS)}
    recovery = _seconds_to_recover([each for each in timely if id(each) not in crowded], ended)
    rows.append(_row(part, fault, during, right, timely, recovery, cpu))

    assert not _shown([each for each in load.answers if each.problems]), "not valid"
    assert during
    steady = [each for each in during if id(each) not in crowded]
    assert not _shown([each for each in steady if not is_right(each, right)]), "not the right tier"
    in_transition = [each for each in timely if each.received >= begun and id(each) not in crowded]
    assert not _shown([each for each in in_transition if not is_right_in_transition(each, part)]), (
        "not the right tier in transition"
    )
    assert recovery <= RECOVERY_SECONDS, f"full service was back after {recovery:.1f} s"
    in_time = float(np.mean([each.milliseconds <= VERY_LATE_MS for each in timely]))
    assert in_time >= LEAST_IN_TIME, f"only {in_time:.1%} came within {VERY_LATE_MS:.0f} ms"
    assert len(crowded) <= MOST_CROWDED_OUT * len(timely), f"{len(crowded)} of {len(timely)} were crowded out"


def test_after_all_of_it_everything_is_still_watched(rig: Rig) -> None:
    watchers = {
        "mlflow": rig.settings.ranker_url,
        "redis": rig.settings.feature_service_url,
        "ranker_service": rig.settings.orchestrator_url,
    }
    for part, url in watchers.items():
        rig.wait_until_well()
        with rig.proxies[part].closed():
            eventually(lambda url=url: url in rig.problems(), f"{part}: its absence was not reported")
    rig.wait_until_well()


def _full_for_a_while(since: float, seconds: float) -> Callable[[Sequence[Answered]], bool]:
    """A condition: all recent requests got full service."""

    def holds(answers: Sequence[Answered]) -> bool:
        now = time.perf_counter()
        if now - since < seconds:
            return False
        return all(is_right(each, FULL) for each in answers[-200:] if each.sent > now - seconds)

    return holds


def _seconds_to_recover(answers: Sequence[Answered], ended: float) -> float:
    """From the end of the fault to the last request without full service."""
    return max((each.sent - ended for each in answers if each.sent > ended and not is_right(each, FULL)), default=0.0)


def _row(
    part: str,
    fault: Fault,
    during: list[Answered],
    right: dict[Kind, Expected],
    answers: list[Answered],
    recovery: float,
    cpu: float,
) -> table.Row:
    milliseconds = [each.milliseconds for each in during]
    return table.Row(
        part=part,
        fault=fault.name,
        requests=len(answers),
        valid=float(np.mean([each.response is not None and not each.problems for each in answers])),
        right=float(np.mean([is_right(each, right) for each in during])),
        in_time=float(np.mean([each.milliseconds <= LATE_MS for each in answers])),
        p50_ms=float(np.percentile(milliseconds, 50)),
        p99_ms=float(np.percentile(milliseconds, 99)),
        max_ms=max(each.milliseconds for each in answers),
        cpu=cpu,
        tiers=Counter(each.response.tier.value for each in during if each.response),
        recovery_seconds=recovery,
    )


def _shown(answers: list[Answered]) -> str:
    """The first few, for the message of a failing test. Empty if there are none."""
    lines = [
        f"{each.question.kind}: {each.outcome}, {each.milliseconds:.0f} ms, {'; '.join(each.problems)} "
        f"{each.response.timings_ms if each.response else ''}"
        for each in answers[:SHOWN]
    ]
    return "\n".join([f"{len(answers)} responses, for example:", *lines]) if answers else ""
