"""The failure policy of the pipeline, as data, and the run that one request makes through its stages."""

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
    POPULAR = "popular"
    BACKFILL = "backfill"
    DESCRIBE = "describe"


@dataclass(frozen=True, slots=True)
class StagePolicy:
    finish_by: float
    """The part of the deadline after which the stage is given up, so that time is left for what serves instead."""
    fallback_tier: Tier | None
    """The best tier that can still be served without this stage; None where the tier stays as it is."""


FAILURE_POLICY: dict[Stage, StagePolicy] = {
    Stage.FEATURES: StagePolicy(finish_by=0.45, fallback_tier=Tier.POPULAR),
    Stage.ENCODE: StagePolicy(finish_by=0.60, fallback_tier=Tier.PRECOMPUTED),
    Stage.RETRIEVE: StagePolicy(finish_by=0.70, fallback_tier=Tier.PRECOMPUTED),
    Stage.RANK: StagePolicy(finish_by=0.80, fallback_tier=Tier.RETRIEVED),
    Stage.POPULAR: StagePolicy(finish_by=0.90, fallback_tier=Tier.STATIC),
    Stage.BACKFILL: StagePolicy(finish_by=0.90, fallback_tier=None),
    Stage.DESCRIBE: StagePolicy(finish_by=0.95, fallback_tier=None),
}

COMPLETE = "complete"


@dataclass(slots=True)
class RequestRun:
    """One request's way through the stages: its deadline, its timings, and the first thing that went wrong."""

    deadline: Deadline
    tier: Tier = Tier.PERSONALIZED
    reason: str = COMPLETE
    timings_ms: dict[str, float] = field(default_factory=dict)

    async def run_stage(self, stage: Stage, work: Coroutine[Any, Any, T]) -> T | None:
        """The stage's result, or None where it failed or took too long; then the tier falls as the policy says.

        Only failures of upstreams and releases are survived. Everything else is a programmer's mistake and raises.
        """
        policy = FAILURE_POLICY[stage]
        started = self.deadline.elapsed()
        allowed = self.deadline.fraction(policy.finish_by)
        try:
            if allowed.remaining() <= 0:
                work.close()
                raise TimeoutError
            with allowed.activate():
                async with asyncio.timeout(allowed.remaining()):
                    return await work
        except TimeoutError:
            self.degrade_to(policy.fallback_tier, f"{stage}:{UpstreamTimeout.code}")
        except (UpstreamError, ReleaseError) as error:
            self.degrade_to(policy.fallback_tier, f"{stage}:{error.code}")
        finally:
            spent_ms = (self.deadline.elapsed() - started) * 1000
            self.timings_ms[stage] = round(self.timings_ms.get(stage, 0.0) + spent_ms, 3)
        return None

    def degrade_to(self, tier: Tier | None, reason: str) -> None:
        """Let the answer be of no better tier than this one; the first reason given is the one that is told."""
        if self.reason == COMPLETE:
            self.reason = reason
        if tier is not None:
            self.tier = max(self.tier, tier, key=list(Tier).index)
