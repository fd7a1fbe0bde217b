"""The quality factor: retrieves fewer candidates while recommendations are slow, before requests have to be refused.

One slow recommendation lowers the factor as much as 19 fast ones raise it, so it settles when 1 in 20 is slower than
the target (the linear latency quality factor of X's home mixer).
"""

from math import isclose

from recsys.contracts.recommendation import Tier
from recsys.stages import RequestRun, Stage

SLOW = 0.4
"""A recommendation that takes longer than this fraction of the default deadline counts as slow."""
SLOW_PERCENTILE = 95
STEP = 0.005
"""Added by one fast recommendation; 160 of them raise the factor from the floor to 1."""
FLOOR = 0.2
MODEL_STAGES = frozenset({Stage.ENCODE, Stage.RETRIEVE, Stage.RANK})


class QualityFactor:
    def __init__(self, deadline_seconds: float) -> None:
        """`deadline_seconds` is the default deadline of requests."""
        self._deadline_seconds = deadline_seconds
        self.factor = 1.0

    def observe(self, run: RequestRun) -> None:
        """Update the factor with a recommendation whose model stages have just ended. A timeout in them makes it slow.

        Ignores requests with another deadline than the default, because their timeouts only show how long the caller
        waits, and requests whose model stages failed without a timeout, because they were fast for the wrong reason.
        """
        timed_out = not MODEL_STAGES.isdisjoint(run.timed_out)
        if not isclose(run.deadline.seconds, self._deadline_seconds) or not (
            timed_out or run.tier == Tier.PERSONALIZED
        ):
            return
        slow = timed_out or run.deadline.elapsed() > SLOW * self._deadline_seconds
        step = -STEP * SLOW_PERCENTILE / (100 - SLOW_PERCENTILE) if slow else STEP
        self.factor = min(1.0, max(FLOOR, self.factor + step))

    def scale(self, num_candidates: int, at_least: int) -> int:
        """`num_candidates` times the factor, but not less than `at_least` and not more than `num_candidates`."""
        return min(num_candidates, max(at_least, round(num_candidates * self.factor)))
