"""The recall that an index has to reach."""

from dataclasses import dataclass

LARGE = 200_000
"""Vectors. In larger collections the last percent of recall costs more time than it is worth to the second stage."""


@dataclass(frozen=True, slots=True)
class RecallTarget:
    mean: float
    worst: float
    """The mean recall of the worst percent of the queries."""

    @classmethod
    def for_size(cls, num_vectors: int) -> "RecallTarget":
        return cls(mean=0.98, worst=0.9) if num_vectors <= LARGE else cls(mean=0.95, worst=0.0)
