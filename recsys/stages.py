"""The failure policy of the pipeline, as data, and `RequestRun`, which applies it to one request."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from recsys.contracts.recommendation import Tier
from recsys.deadline import Deadline
from recsys.errors import ReleaseError, UpstreamError, UpstreamTimeout

T = TypeVar("T")


class Stage(StrEnum):
    FEATURES = "features"
    ENCODE = "encode"
    RETRIEVE = "retrieve"
    RANK = "rank"
    PRECOMPUTED = "precomputed"
    SEEN = "seen"
    POPULAR = "popular"
    BACKFILL = "backfill"
    DESCRIBE = "describe"


@dataclass(frozen=True, slots=True)
class StagePolicy:
    finish_by: float
    """The stage is cancelled after this fraction of the deadline, which leaves time for the fallback."""
    fallback_tier: Tier | None
    """The best tier that is possible without this stage; None if the stage does not limit the tier."""


FAILURE_POLICY: dict[Stage, StagePolicy] = {
    # Without features a session can still be personalized; without both, the pipeline serves popular items.
    Stage.FEATURES: StagePolicy(finish_by=0.45, fallback_tier=None),
    Stage.ENCODE: StagePolicy(finish_by=0.60, fallback_tier=Tier.PRECOMPUTED),
    Stage.RETRIEVE: StagePolicy(finish_by=0.70, fallback_tier=Tier.PRECOMPUTED),
    Stage.RANK: StagePolicy(finish_by=0.80, fallback_tier=Tier.RETRIEVED),
    Stage.PRECOMPUTED: StagePolicy(finish_by=0.80, fallback_tier=Tier.POPULAR),
    # Without it, items that a user with a very long history saw long ago may be shown again.
    Stage.SEEN: StagePolicy(finish_by=0.85, fallback_tier=None),
    Stage.POPULAR: StagePolicy(finish_by=0.90, fallback_tier=Tier.STATIC),
    Stage.BACKFILL: StagePolicy(finish_by=0.90, fallback_tier=None),
    Stage.DESCRIBE: StagePolicy(finish_by=0.95, fallback_tier=None),
}

COMPLETE = "complete"


@dataclass(slots=True)
class RequestRun:
    """The state of one request: its deadline, its timings, its tier, and the first reason for a lower tier."""

    deadline: Deadline
    tier: Tier = Tier.PERSONALIZED
    reason: str = COMPLETE
    timings_ms: dict[str, float] = field(default_factory=dict)
    timed_out: set[Stage] = field(default_factory=set)

    async def run_stage(self, stage: Stage, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None if it fails or takes too long; then the tier drops as the policy says.

        Handles upstream and release errors only. Any other exception is a bug and propagates.
        """
        policy = FAILURE_POLICY[stage]
        started = self.deadline.elapsed()
        stage_deadline = self.deadline.fraction(policy.finish_by)
        try:
            if stage_deadline.remaining() <= 0:
                work.close()
                raise TimeoutError
            with stage_deadline.activate():
                async with asyncio.timeout(stage_deadline.remaining()):
                    return await work
        except TimeoutError:
            self.timed_out.add(stage)
            self.degrade_to(policy.fallback_tier, f"{stage}:{UpstreamTimeout.code}")
        except (UpstreamError, ReleaseError) as error:
            if isinstance(error, UpstreamTimeout):
                self.timed_out.add(stage)
            self.degrade_to(policy.fallback_tier, f"{stage}:{error.code}")
        finally:
            spent_ms = (self.deadline.elapsed() - started) * 1000
            self.timings_ms[stage] = round(self.timings_ms.get(stage, 0.0) + spent_ms, 3)
        return None

    def degrade_to(self, tier: Tier | None, reason: str) -> None:
        """Limit the response to this tier or a worse one. Only the first reason is kept."""
        if self.reason == COMPLETE:
            self.reason = reason
        if tier is not None:
            self.tier = max(self.tier, tier, key=list(Tier).index)

    def add_reason(self, reason: str) -> None:
        """Add a reason that has nothing to do with the tier."""
        self.reason = reason if self.reason == COMPLETE else f"{self.reason},{reason}"

    def finish(self) -> dict[str, float]:
        """The timings of the stages, with the total."""
        return {**self.timings_ms, "total": round(self.deadline.elapsed() * 1000, 3)}
