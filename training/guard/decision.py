"""What the guard does about a ramp, as a pure function of what is known."""

from enum import StrEnum
from typing import NamedTuple

from recsys.ramp import Ramp
from training.guard.evidence import Compared, Evidence


class Action(StrEnum):
    WAIT = "wait"
    """Nothing speaks against the release, and it is too early to move on."""
    BLIND = "blind"
    """What users were shown or what they did cannot be seen, so the ramp stays where it is."""
    MOVE = "move"
    """To the next share."""
    ROLL_BACK = "roll_back"


class Rules(NamedTuple):
    click_margin: float
    """How much of the click-through may be lost, as a fraction of that of the release before."""
    largest_loss: float
    """Which loss of click-through, as such a fraction, has to be ruled out before the next share."""
    lowered_margin: float
    """How much larger the share of lower tiers may be."""
    slower_margin: float
    """How much longer responses may take, as a fraction of the time of the release before."""
    step_seconds: float
    step_impressions: int
    """What a share needs before the next one: time, and impressions of the new release."""
    blind_seconds: float
    """How long no impression or no event may be collected."""


class Verdict(NamedTuple):
    action: Action
    reason: str


def decide(ramp: Ramp, evidence: Evidence, rules: Rules, now: float) -> Verdict:
    """`now` in Unix time in seconds. A release that is worse is taken back even if some of the evidence is missing."""
    worse = _worse(evidence, rules)
    if worse is not None:
        return Verdict(Action.ROLL_BACK, worse)
    hidden = _hidden(ramp, evidence, rules, now)
    if hidden is not None:
        return Verdict(Action.BLIND, hidden)
    if not evidence.impressions_before:
        return Verdict(Action.WAIT, f"version {ramp.before} was not shown yet")
    so_far = f"{evidence.impressions_of_step:,} impressions at {ramp.percent:g}%"
    if evidence.impressions_of_step < rules.step_impressions:
        return Verdict(Action.WAIT, f"{so_far}, of {rules.step_impressions:,}")
    clicks = evidence.click_through
    if clicks is None or clicks.difference.low <= -rules.largest_loss * clicks.before:
        return Verdict(Action.WAIT, f"{so_far}; a loss of {rules.largest_loss:.0%} of the clicks is not ruled out yet")
    if now - ramp.since < rules.step_seconds:
        minutes = (rules.step_seconds - (now - ramp.since)) / 60
        return Verdict(Action.WAIT, f"{so_far}; the next step is in {minutes:.0f} min at the earliest")
    return Verdict(Action.MOVE, f"{so_far}, and nothing is worse by more than its margin")


def _worse(evidence: Evidence, rules: Rules) -> str | None:
    """The first of the measures that is worse by more than its margin, with confidence; None if none is."""
    clicks, lowered, took = evidence.click_through, evidence.lowered, evidence.took
    if clicks and clicks.difference.high < -rules.click_margin * clicks.before:
        return _told("click-through", clicks, "{:.2%}", evidence)
    if lowered and lowered.difference.low > rules.lowered_margin:
        return _told("lower tiers", lowered, "{:.2%}", evidence)
    if took and took.difference.low > rules.slower_margin * took.before:
        return _told("response time", took, "{:.0f} ms", evidence)
    return None


def _told(measure: str, found: Compared, form: str, evidence: Evidence) -> str:
    champion, before = form.format(found.champion), form.format(found.before)
    low, high = form.format(found.difference.low), form.format(found.difference.high)
    return (
        f"{measure} {champion}, and {before} of the release before (difference {low} to {high}), in "
        f"{evidence.impressions:,} and {evidence.impressions_before:,} impressions"
    )


def _hidden(ramp: Ramp, evidence: Evidence, rules: Rules, now: float) -> str | None:
    """What is missing of the evidence; None if nothing is."""
    for name, latest in (("impression", evidence.last_impression_at), ("event", evidence.last_event_at)):
        silent = now - max(latest or 0.0, ramp.started)
        if silent > rules.blind_seconds:
            return f"no {name} was collected in the last {silent / 60:.0f} min"
    if not evidence.impressions_before and now - ramp.started > rules.blind_seconds:
        return f"version {ramp.before} was not shown to anybody since the ramp began"
    both = evidence.impressions + evidence.impressions_before
    if evidence.clicked == 0 and both >= rules.step_impressions:
        return f"none of {both:,} impressions was clicked: do events carry the recommendation_id?"
    return None
