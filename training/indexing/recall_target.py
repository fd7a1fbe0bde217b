"""What an index has to find."""

from dataclasses import dataclass

LARGE = 200_000
"""Vectors. Above, the last percents cost more time than what they find is worth to the second stage."""


@dataclass(frozen=True, slots=True)
class RecallTarget:
    mean: float
    worst: float
    """For the mean of the worst percent of the queries."""

    @classmethod
    def for_size(cls, num_vectors: int) -> "RecallTarget":
        return cls(mean=0.98, worst=0.9) if num_vectors <= LARGE else cls(mean=0.95, worst=0.0)
