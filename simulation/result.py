"""What follows from all seeds: the numbers of `simulation.json`, and whether the loop does what it has to.

Intervals are bootstrap intervals of 95% (percentiles). The units are visitors, drawn anew within each seed and policy;
the seeds are the three shops that were simulated, and not a sample of all shops.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulation.outcome import Outcome
from simulation.phases import AFTER_DRIFT, Pages, Phase, click_through, pages_of
from simulation.policies import PolicyName
from training.atomic import atomic_file

RESAMPLES = 1_000
LEAST_RECOVERED = 0.8
MOST_BAD_IMPRESSIONS = 2_000

Values = NDArray[np.float64]
"""[...]: one number, or one for every resample."""
ByPolicy = dict[PolicyName, Pages]


class Interval(BaseModel):
    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


class Seed(NamedTuple):
    outcome: Outcome
    views: pl.DataFrame
    """[page views] of `simulation.outcome.VIEW_SCHEMA`."""

    @property
    def pages(self) -> ByPolicy:
        return {policy: pages_of(self.views, policy, self.outcome.plan) for policy in PolicyName}


class Result(BaseModel):
    model_config = ConfigDict(frozen=True)

    seeds: int
    closed_over_frozen: Interval
    """The difference of the click-through in all days after the season changed, on average over the seeds."""
    closed_over_frozen_by_seed: list[float]
    recovered_share: float
    """Of what the change of the season cost the frozen release, after two retrainings: see `recovered`."""
    recovered_share_interval: Interval
    recovered_share_by_seed: list[float]
    bad_release_impressions: list[int]
    """One number per seed."""
    bad_release_rolled_back: list[str | None]
    """The reasons."""
    equal_release_runs: int
    equal_release_rollbacks: int
    equal_release_promotions: int
    """How many of them reached all users."""
    click_through: dict[PolicyName, float]
    """In all days after the season changed."""
    click_through_by_phase: dict[Phase, dict[PolicyName, float]]

    @classmethod
    def of(cls, seeds: Sequence[Seed]) -> Self:
        pages = [seed.pages for seed in seeds]
        totals = _totals(pages)
        equal = [each for seed in seeds for each in seed.outcome.equal]
        recovered_share = _estimate(recovered, pages)
        return cls(
            seeds=len(seeds),
            closed_over_frozen=_estimate(lead, pages),
            closed_over_frozen_by_seed=[float(lead([each])) for each in totals],
            recovered_share=recovered_share.mean,
            recovered_share_interval=recovered_share,
            recovered_share_by_seed=[float(recovered([each])) for each in totals],
            bad_release_impressions=[seed.outcome.bad.impressions for seed in seeds],
            bad_release_rolled_back=[seed.outcome.bad.rolled_back for seed in seeds],
            equal_release_runs=len(equal),
            equal_release_rollbacks=sum(each.rolled_back is not None for each in equal),
            equal_release_promotions=sum(each.ended and each.rolled_back is None for each in equal),
            click_through={policy: float(_mean(totals, policy, *AFTER_DRIFT)) for policy in PolicyName},
            click_through_by_phase={
                phase: {policy: float(_mean(totals, policy, phase)) for policy in PolicyName} for phase in Phase
            },
        )

    def problems(self) -> list[str]:
        """Sentences about what the loop does not do; none if it closes."""
        lead, problems = self.closed_over_frozen, []
        if lead.low <= 0:
            problems.append(f"the lead over the frozen release, {lead.mean:+.3f}, may be chance: from {lead.low:+.3f}")
        if self.recovered_share < LEAST_RECOVERED:
            problems.append(f"{self.recovered_share:.0%} of the loss came back, and not {LEAST_RECOVERED:.0%}")
        if None in self.bad_release_rolled_back or max(self.bad_release_impressions) >= MOST_BAD_IMPRESSIONS:
            problems.append(f"bad releases served {self.bad_release_impressions} pages, or were not taken back")
        if self.equal_release_rollbacks:
            runs = self.equal_release_runs
            problems.append(f"{self.equal_release_rollbacks} of {runs} equal releases were taken back")
        return problems

    def table(self) -> str:
        """Click-through by phase and policy, as Markdown."""
        lines = [f"| | {' | '.join(PolicyName)} |", f"| --- |{' ---: |' * len(PolicyName)}"]
        for phase, by_policy in self.click_through_by_phase.items():
            cells = " | ".join(f"{by_policy[policy]:.1%}" for policy in PolicyName)
            lines.append(f"| {phase.replace('_', ' ')} | {cells} |")
        return "\n".join(lines)

    def summary(self) -> str:
        lead, share = self.closed_over_frozen, self.recovered_share_interval
        return (
            f"closed over frozen {lead.mean:+.3f} ({lead.low:+.3f} to {lead.high:+.3f}), {share.mean:.0%} recovered "
            f"({share.low:.0%} to {share.high:.0%}), bad releases served {self.bad_release_impressions} pages, "
            f"{self.equal_release_rollbacks} of {self.equal_release_runs} equal releases were taken back"
        )

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def lead(seeds: Sequence[ByPolicy]) -> Values:
    """Click-through of the closed loop minus that of the frozen release, after the season changed."""
    closed, frozen = (_mean(seeds, policy, *AFTER_DRIFT) for policy in (PolicyName.CLOSED, PolicyName.FROZEN))
    return closed - frozen


def recovered(seeds: Sequence[ByPolicy]) -> Values:
    """(closed - frozen after two retrainings) / (before the season changed - frozen after two retrainings).

    Before, both serve the first release, so both count.
    """
    closed = _mean(seeds, PolicyName.CLOSED, Phase.SECOND)
    frozen = _mean(seeds, PolicyName.FROZEN, Phase.SECOND)
    before = (_mean(seeds, PolicyName.CLOSED, Phase.BEFORE) + _mean(seeds, PolicyName.FROZEN, Phase.BEFORE)) / 2
    return (closed - frozen) / np.maximum(before - frozen, 1e-9)


def _mean(seeds: Sequence[ByPolicy], policy: PolicyName, *phases: Phase) -> Values:
    """Click-through in these phases. Every seed counts the same."""
    return np.asarray(np.mean([click_through(seed[policy], *phases) for seed in seeds], axis=0), dtype=np.float64)


def _estimate(measure: Callable[[Sequence[ByPolicy]], Values], seeds: Sequence[ByPolicy]) -> Interval:
    """seeds: the pages of users."""
    random = np.random.default_rng(0)
    drawn = measure([{policy: _resampled(pages, random) for policy, pages in seed.items()} for seed in seeds])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(mean=float(measure(_totals(seeds))), low=float(low), high=float(high))


def _totals(seeds: Sequence[ByPolicy]) -> list[ByPolicy]:
    return [{policy: pages.sum(axis=0) for policy, pages in seed.items()} for seed in seeds]


def _resampled(pages: Pages, random: np.random.Generator) -> Pages:
    """[RESAMPLES, phases, 2]: the totals of as many users, drawn with replacement."""
    users = len(pages)
    drawn = random.multinomial(users, np.full(users, 1 / users), size=RESAMPLES)
    totals: Pages = np.einsum("ru,upc->rpc", drawn, pages)
    return totals
