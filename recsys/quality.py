"""How wide recommendations are computed: the quality factor shrinks while they are slow, before any has to be refused.

It settles where one in twenty is slower than the target: a slow one takes it down nineteen times as far as a fast one
takes it up (the linear latency quality factor of X's home mixer).
"""

SLOW_PERCENTILE = 95
STEP = 0.005
"""What one fast recommendation adds; from the floor back to full width it takes 160 of them."""
FLOOR = 0.2


class QualityFactor:
    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self.factor = 1.0

    def observe(self, seconds: float) -> None:
        """Learn how long a recommendation took."""
        slow = seconds > self._target_seconds
        step = -STEP * SLOW_PERCENTILE / (100 - SLOW_PERCENTILE) if slow else STEP
        self.factor = min(1.0, max(FLOOR, self.factor + step))

    def part_of(self, width: int, at_least: int) -> int:
        """The width to compute now: `at_least` so much, as far as the full one goes."""
        return min(width, max(at_least, round(width * self.factor)))
