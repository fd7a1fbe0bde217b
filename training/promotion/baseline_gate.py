"""A release beside the best baseline of its evaluation: who serves less than a simple count should know it.

`make evaluate` measured both on the same users, so nothing is measured again.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

from recsys.errors import ReleaseRefused

METRICS = (
    "ndcg_at_10",
    "best_baseline_ndcg_at_10",
    "lift_over_best_baseline",
    "lift_over_best_baseline_low",
    "lift_over_best_baseline_high",
)


class AgainstBaseline(NamedTuple):
    """NDCG@10 of a release and of the best baseline, and their difference with its 95% interval."""

    ours: float
    theirs: float
    lift: float
    low: float
    high: float

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> Self | None:
        """From the metrics of a release; None if it was evaluated without a choice of the best baseline."""
        return cls(*(metrics[name] for name in METRICS)) if all(name in metrics for name in METRICS) else None

    @property
    def below(self) -> bool:
        """Whether the release is below the baseline, and not by chance."""
        return self.high < 0

    def __str__(self) -> str:
        return (
            f"NDCG@10 {self.ours:.4f} on the test items, and the best baseline {self.theirs:.4f}: {self.lift:+.4f} "
            f"(95% interval {self.low:+.4f} to {self.high:+.4f})"
        )


def pass_baseline(version: int, metrics: Mapping[str, float], *, force: bool, first: bool) -> str:
    """One line about the comparison. Raises ReleaseRefused if the version is below the best baseline.

    With `force`, or as the `first` champion, it passes with a warning: before the first champion nothing is served.
    """
    compared = AgainstBaseline.of(metrics)
    if compared is None:
        return f"version {version} is not compared with the baselines, because it was evaluated without them"
    if not compared.below:
        return f"version {version} has {compared}"
    if force or first:
        reason = "FORCE is set" if force else "there is no champion yet"
        return f"warning: version {version} is below the best baseline, but {reason}: it has {compared}"
    raise ReleaseRefused(
        f"version {version} is below the best baseline, which the report of `make evaluate` names: it has {compared}; "
        "longer training or more data may help, and FORCE=1 promotes it anyway"
    )
