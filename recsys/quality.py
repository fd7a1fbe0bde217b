"""The quality factor: retrieves fewer candidates while recommendations are slow, before requests have to be refused.

One slow recommendation lowers the factor as much as 19 fast ones raise it, so it settles when 1 in 20 is slower than
the target (the linear latency quality factor of X's home mixer).
"""

SLOW_PERCENTILE = 95
STEP = 0.005
"""Added by one fast recommendation; 160 of them raise the factor from the floor to 1."""
FLOOR = 0.2


class QualityFactor:
    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self.factor = 1.0

    def observe(self, seconds: float) -> None:
        """Update the factor with the latency of one recommendation."""
        slow = seconds > self._target_seconds
        step = -STEP * SLOW_PERCENTILE / (100 - SLOW_PERCENTILE) if slow else STEP
        self.factor = min(1.0, max(FLOOR, self.factor + step))

    def scale(self, num_candidates: int, at_least: int) -> int:
        """`num_candidates` times the factor, but not less than `at_least` and not more than `num_candidates`."""
        return min(num_candidates, max(at_least, round(num_candidates * self.factor)))
