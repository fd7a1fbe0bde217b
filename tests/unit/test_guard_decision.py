"""What the guard does about a ramp: by a table of cases, and for simulated users with a look after every few pages."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from events.attribution.tally import SLOT_SECONDS, TALLY_SCHEMA, Measure
from recsys.contracts.recommendation import Tier
from recsys.contracts.release_report import Estimate
from recsys.experiment import CHAMPION, HOLDBACK
from recsys.ramp import EVERYBODY, Ramp, gets_champion
from training.guard.decision import Action, Verdict, decide
from training.guard.evidence import Compared, Evidence, gather
from training.guard.settings import GuardSettings

RULES = GuardSettings(MLFLOW_TRACKING_URI="http://127.0.0.1:1", EVENT_LOG="unused").rules  # type: ignore[call-arg]
NEW, OLD = 5, 4
START = 1_800_000_000.0
HOUR = 3600.0
RAMP = Ramp(before=OLD, percent=10, steps=(10, 50, 95), started=START, since=START)


def compared(champion: float, before: float, low: float, high: float) -> Compared:
    return Compared(champion, before, Estimate(mean=champion - before, low=low, high=high))


CLEAR = Evidence(
    impressions=2000,
    impressions_before=18_000,
    impressions_of_step=2000,
    clicked=1000,
    click_through=compared(0.050, 0.050, -0.01, 0.01),
    lowered=compared(0.02, 0.02, -0.01, 0.01),
    took=compared(30.0, 28.0, -1.0, 5.0),
    last_impression_at=START + HOUR,
    last_event_at=START + HOUR,
)

CASES: list[tuple[str, dict[str, Any], Action, str]] = [
    ("equal", {}, Action.MOVE, "2,000 impressions at 10%, and nothing is worse"),
    ("worse, perhaps", {"click_through": compared(0.04, 0.05, -0.02, 0.0)}, Action.MOVE, ""),
    ("worse within the margin", {"click_through": compared(0.049, 0.05, -0.0015, -0.0005)}, Action.MOVE, ""),
    ("better", {"click_through": compared(0.06, 0.05, 0.005, 0.015)}, Action.MOVE, ""),
    (
        "fewer clicks",
        {"click_through": compared(0.025, 0.05, -0.03, -0.02)},
        Action.ROLL_BACK,
        "click-through 2.50%, and 5.00% of the release before (difference -3.00% to -2.00%), in 2,000 and 18,000",
    ),
    ("lower tiers", {"lowered": compared(0.5, 0.02, 0.4, 0.55)}, Action.ROLL_BACK, "lower tiers 50.00%, and 2.00%"),
    ("slower", {"took": compared(60, 28, 20, 40)}, Action.ROLL_BACK, "response time 60 ms, and 28 ms"),
    ("a little slower", {"took": compared(40, 28, 10, 14)}, Action.MOVE, ""),
    (
        "nothing certain",
        {"click_through": compared(0.05, 0.05, -0.03, 0.03)},
        Action.WAIT,
        "a loss of 50% of the clicks is not ruled out yet",
    ),
    ("too few", {"impressions_of_step": 999}, Action.WAIT, "999 impressions at 10%, of 1,000"),
    ("no impressions", {"last_impression_at": None}, Action.BLIND, "no impression was collected in the last 60 min"),
    (
        "late files",
        {"last_impression_at": START + HOUR / 2},
        Action.BLIND,
        "the last 30 min",
    ),
    ("no events", {"last_event_at": None}, Action.BLIND, "no event was collected in the last 60 min"),
    ("nothing attributed", {"clicked": 0}, Action.BLIND, "none of 20,000 impressions was clicked"),
    (
        "worse, and then blind",
        {"lowered": compared(0.5, 0.02, 0.4, 0.55), "last_event_at": None},
        Action.ROLL_BACK,
        "lower tiers",
    ),
    ("one release alone", {"impressions_before": 0, "click_through": None}, Action.BLIND, "version 4 was not shown"),
]


@pytest.mark.parametrize(("changes", "action", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_follows_from_what_is_known(changes: dict[str, Any], action: Action, reason: str) -> None:
    verdict = decide(RAMP, CLEAR._replace(**changes), RULES, START + HOUR)
    assert (verdict.action, reason in verdict.reason) == (action, True), verdict.reason


def test_a_step_takes_its_time() -> None:
    verdict = decide(RAMP, CLEAR, RULES, START + 20 * 60)
    assert verdict == Verdict(Action.WAIT, "2,000 impressions at 10%; the next step is in 10 min at the earliest")


# --- simulated users --------------------------------------------------------------------------------------------------


@dataclass
class Release:
    click_through: float = 0.05
    lowered: float = 0.02
    took_ms: float = 30.0


@dataclass
class Outcome:
    rolled_back: bool
    impressions: int
    """Of the new release."""
    percent: float
    reason: str


USERS = [f"user-{number}" for number in range(3000)]
REACHED = {percent: np.array([gets_champion(user, NEW, percent) for user in USERS]) for percent in RAMP.steps}
LOOK_SECONDS = SLOT_SECONDS / 2


def simulate(new: Release, old: Release, seed: int, pages_per_look: int = 700, rules: Any = RULES) -> Outcome:
    """Users with tastes of their own ask for pages, until the ramp ends; the guard looks after each interval."""
    random = np.random.default_rng(seed)
    tastes = random.gamma(4.0, 0.25, len(USERS))
    ramp, now, rows = RAMP, START, []
    while ramp.percent < EVERYBODY:
        now += LOOK_SECONDS
        rows.append(_shown(random, tastes, ramp, now, pages_per_look, new, old))
        evidence = gather(pl.concat(rows), ramp)
        verdict = decide(ramp, evidence, rules, now)
        if verdict.action == Action.ROLL_BACK:
            return Outcome(True, evidence.impressions, ramp.percent, verdict.reason)
        assert verdict.action != Action.BLIND, verdict.reason
        if verdict.action == Action.MOVE:
            ramp = ramp.model_copy(update={"percent": ramp.next_percent, "since": now})
    return Outcome(False, evidence.impressions, ramp.percent, "")


def _shown(
    random: np.random.Generator,
    tastes: np.ndarray,
    ramp: Ramp,
    now: float,
    pages: int,
    new: Release,
    old: Release,
) -> pl.DataFrame:
    """The tallies of some pages, before `now`."""
    users = random.integers(len(USERS), size=pages)
    reached = REACHED[ramp.percent][users]
    lowered = random.random(pages) < np.where(reached, new.lowered, old.lowered)
    rate = np.where(reached, new.click_through, old.click_through) * tastes[users] * np.where(lowered, 0.5, 1.0)
    took = random.gamma(4.0, np.where(reached, new.took_ms, old.took_ms) / 4.0)
    page = pl.DataFrame(
        {
            "release": np.where(reached, NEW, OLD),
            "variant": np.where(reached, CHAMPION, HOLDBACK),
            "tier": np.where(lowered, Tier.POPULAR.value, Tier.PERSONALIZED.value),
            "user_id": np.array(USERS)[users],
            "slot": int((now - 1) // SLOT_SECONDS * SLOT_SECONDS),
            Measure.IMPRESSIONS.value: 1.0,
            Measure.CLICKED.value: (random.random(pages) < rate).astype(float),
            Measure.TOOK_MS.value: took,
        }
    )
    by = ["release", "variant", "tier", "user_id", "slot"]
    counts = page.group_by(by).sum().unpivot(index=by, variable_name="measure", value_name="amount")
    latest = pl.DataFrame({"measure": [Measure.LAST_IMPRESSION.value, Measure.LAST_EVENT.value], "amount": [now, now]})
    rows = pl.concat([counts, latest], how="diagonal_relaxed").cast({"release": pl.Int32, "slot": pl.Int64})
    return rows.match_to_schema(TALLY_SCHEMA, missing_columns="insert")


def test_an_equal_release_is_never_rolled_back() -> None:
    outcomes = [simulate(Release(), Release(), seed, pages_per_look=2500) for seed in range(20)]
    assert [outcome for outcome in outcomes if outcome.rolled_back] == []
    assert {outcome.percent for outcome in outcomes} == {EVERYBODY}


@pytest.mark.parametrize(
    "bad", [Release(click_through=0.025), Release(lowered=1.0), Release(took_ms=60)], ids=["clicks", "tiers", "slow"]
)
def test_a_release_that_is_much_worse_is_rolled_back_within_2000_impressions(bad: Release) -> None:
    for seed in range(4):
        outcome = simulate(bad, Release(), seed)
        assert outcome.rolled_back
        assert outcome.impressions <= 2000, outcome


def test_where_few_pages_are_clicked_a_ramp_takes_longer_and_ends_as_well() -> None:
    few, fewer = Release(click_through=0.02), Release(click_through=0.01)
    assert simulate(few, few, seed=1, pages_per_look=2500).percent == EVERYBODY
    for seed in range(4):
        assert simulate(fewer, few, seed, pages_per_look=2500).percent == 10


def test_what_happened_before_the_ramp_and_the_champion_before_in_its_slot_do_not_count() -> None:
    """The former champion served as `champion` until the ramp began, with half of the clicks."""
    slot = int(START // SLOT_SECONDS * SLOT_SECONDS)
    row = {"variant": CHAMPION, "tier": "personalized", "user_id": "ann", "measure": Measure.IMPRESSIONS.value}
    rows = [
        {**row, "release": OLD, "slot": slot, "amount": 7.0},
        {**row, "release": NEW, "slot": slot - SLOT_SECONDS, "amount": 11.0},
        {**row, "release": NEW, "slot": slot, "amount": 13.0},
        {**row, "release": OLD, "variant": HOLDBACK, "user_id": "bea", "slot": slot, "amount": 17.0},
    ]
    evidence = gather(pl.DataFrame(rows, schema=TALLY_SCHEMA), RAMP)
    assert (evidence.impressions, evidence.impressions_before) == (13, 17)


def test_the_first_minutes_of_a_ramp_are_not_blind() -> None:
    nothing = gather(pl.DataFrame(schema=TALLY_SCHEMA), RAMP)
    assert decide(RAMP, nothing, RULES, START + 60) == Verdict(Action.WAIT, "version 4 was not shown yet")
    assert decide(RAMP, nothing, RULES, START + HOUR).action == Action.BLIND
