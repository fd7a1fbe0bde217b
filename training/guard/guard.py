"""Looks at the ramp of a promotion at intervals, and acts on what it sees.

It keeps no state: the ramp is in the registry, the evidence in the event log, and each look reads both. Every action
holds the promotion lease, reads the ramp again, and ends with the one write that counts. So a guard that is killed is
simply started again, and two guards do no harm.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import polars as pl
import structlog
from prometheus_client import Counter, Gauge

from events.attribution.day_tallies import DayTallies
from recsys import clock
from recsys.errors import TandemError
from recsys.model.registry import ModelRegistry
from recsys.web.readiness import OK
from training.guard.decision import Action, Rules, Verdict, decide
from training.guard.evidence import Evidence, gather
from training.promotion.lease import promotion_lease
from training.promotion.ramp import RunningRamp, move_ramp, running_ramp
from training.promotion.rolled_back import RolledBack, rolled_back
from training.promotion.take_back import take_back

JOB = "guard"
"""The holder of the lease."""

LOOKS = Counter("tandem_guard_looks_total", "Looks at a ramp by what followed.", ["action"])
FAILURES = Counter("tandem_guard_failures_total", "Looks that failed.")
ROLLBACKS = Counter("tandem_guard_rollbacks_total", "Releases that the guard took back.")
BLIND = Gauge("tandem_guard_blind", "1 while a promotion ramps and the guard cannot see what users do.")
IMPRESSIONS = Gauge("tandem_guard_impressions", "Impressions since the ramp began, by variant.", ["variant"])
DIFFERENCE = Gauge(
    "tandem_guard_difference",
    "The champion minus the release before, with the ends of its interval.",
    ["measure", "bound"],
)

log = structlog.get_logger()


class Seen(NamedTuple):
    running: RunningRamp
    taken_back: RolledBack | None
    """The record that the champion was taken back, which is written before the alias moves."""


class Guard:
    def __init__(
        self,
        registry: ModelRegistry,
        tallies: DayTallies,
        rules: Rules,
        *,
        seconds: float,
    ) -> None:
        """`seconds` is the time between two looks."""
        self._registry = registry
        self._tallies = tallies
        self._rules = rules
        self._seconds = seconds
        self.state = "it has not looked yet"
        """`ok`, or why it cannot watch."""

    async def run(self) -> None:
        """Look for ever. What fails is tried again with the next look, even if it failed because of a bug."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (TandemError, OSError) as error:
                self._failed(str(error))
            except Exception as error:
                self._failed(f"the look failed: {type(error).__name__}")
                log.exception("guard_failed")
            await asyncio.sleep(self._seconds)

    def look(self) -> Verdict | None:
        """One look; None if no promotion ramps. Raises TandemError or OSError if it cannot see or act."""
        seen = self._read_ramp()
        if seen is None:
            BLIND.set(0)
            IMPRESSIONS.clear()
            DIFFERENCE.clear()
            self.state = OK
            return None
        verdict = self._judge(seen)
        if verdict.action in (Action.MOVE, Action.ROLL_BACK):
            self._act(seen, verdict)
        LOOKS.labels(verdict.action).inc()
        BLIND.set(verdict.action == Action.BLIND)
        self.state = verdict.reason if verdict.action == Action.BLIND else OK
        log.info("guard_looked", release=seen.running.champion, action=verdict.action, reason=verdict.reason)
        return verdict

    def _read_ramp(self) -> Seen | None:
        running = running_ramp(self._registry)
        return None if running is None else Seen(running, rolled_back(self._registry.tags_of(running.champion)))

    def _judge(self, seen: Seen) -> Verdict:
        if seen.taken_back is not None:  # by a guard that was killed before the alias moved
            return Verdict(Action.ROLL_BACK, seen.taken_back.reason)
        ramp = seen.running.ramp
        evidence = gather(self._read_tallies(ramp.started), ramp)
        _show(evidence)
        return decide(ramp, evidence, self._rules, clock.now())

    def _read_tallies(self, started: float) -> pl.DataFrame:
        first, today = (datetime.fromtimestamp(at, UTC).date() for at in (started, clock.now()))
        days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
        return self._tallies.read(days)

    def _act(self, seen: Seen, verdict: Verdict) -> None:
        """Raises JobError while another job changes the champion."""
        with promotion_lease(self._registry, JOB) as lease:
            if self._read_ramp() != seen:
                return  # somebody else was quicker
            if verdict.action == Action.ROLL_BACK:
                take_back(self._registry, lease, verdict.reason)
                ROLLBACKS.inc()
                log.warning("guard_rolled_back", release=seen.running.champion, reason=verdict.reason)
            else:
                lease.require()
                move_ramp(self._registry, seen.running, seen.running.ramp.next_percent)

    def _failed(self, reason: str) -> None:
        FAILURES.inc()
        log.warning("guard_cannot_look", problem=reason)
        self.state = reason


def _show(evidence: Evidence) -> None:
    IMPRESSIONS.labels("champion").set(evidence.impressions)
    IMPRESSIONS.labels("holdback").set(evidence.impressions_before)
    measures = {"click_through": evidence.click_through, "lowered": evidence.lowered, "took_ms": evidence.took}
    for measure, found in measures.items():
        if found is not None:
            for bound, value in found.difference.model_dump().items():
                DIFFERENCE.labels(measure, bound).set(value)
