"""Decides whether a measured quantity is flat, and does not take noise for growth, nor growth for noise.

The measurements are reduced to the floors of equal parts of the time, because every promotion takes memory for a
moment, while what leaked is never given back. A line is fitted through the floors with the Theil-Sen estimator, which a
few outliers do not change (P. K. Sen, JASA 63, 1968). Its 95% interval says how sure the growth is. A quantity is flat
only if even the upper end of the interval is tolerable, so noise never hides a leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import theilslopes

PARTS = 10
"""With 30 promotions, of which half belong to the warm-up, a part has one or two promotions."""
FLOOR = 0.1
"""The quantile that is the floor of a part. The minimum would be one measurement, which may be an outlier."""
LEAST_MEASUREMENTS = 3
CONFIDENCE = 0.95


class Verdict(StrEnum):
    FLAT = "flat"
    GROWS = "grows"
    UNCLEAR = "unclear"
    """The interval contains both tolerable and intolerable growth."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The unit of every field is that of the measurements."""

    first: float
    """Median of the first third."""
    last: float
    """Median of the last third."""
    growth: float
    """From the first part to the last, by the fitted line."""
    low: float
    high: float
    """The 95% interval of the growth."""
    peak: float

    def verdict(self, tolerated: float) -> Verdict:
        if self.high <= tolerated:
            return Verdict.FLAT
        return Verdict.GROWS if self.low > tolerated else Verdict.UNCLEAR


def trend(measurements: Sequence[float]) -> Trend:
    """The trend of evenly spaced measurements, without those of the warm-up. Raises ValueError for fewer than 3."""
    if len(measurements) < LEAST_MEASUREMENTS:
        raise ValueError(f"a trend needs at least {LEAST_MEASUREMENTS} measurements; got {len(measurements)}")
    parts = np.array_split(np.asarray(measurements, dtype=np.float64), min(PARTS, len(measurements)))
    floors = [float(np.quantile(part, FLOOR)) for part in parts]
    slope, _, low, high = (float(each) * (len(floors) - 1) for each in theilslopes(floors, alpha=CONFIDENCE))
    third = len(measurements) // 3
    return Trend(
        first=float(np.median(measurements[:third])),
        last=float(np.median(measurements[-third:])),
        growth=slope,
        low=low,
        high=high,
        peak=max(measurements),
    )
