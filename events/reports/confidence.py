"""Confidence sequences: intervals that hold for all times at once, so one may look at them, and stop, at any time.

The boundary is Robbins' normal mixture, whose clock is an estimate V of the variance of the sum: with probability
1 - alpha, a sum of centred terms never leaves +- sqrt((V + m) log((V + m) / (m alpha^2))). That is the sequence for
terms whose means and variances may change, of I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024
(arXiv:2103.06476), with m = 1 / rho^2. It is asymptotic, as a t-test is.
"""

from math import log, sqrt

from recsys.contracts.release_report import Estimate

ALPHA = 0.05
"""The probability that the truth is ever outside."""
TUNED_FOR = 100.0
"""The variance of the sum, about the number of clicks, at which the interval is narrowest for its kind. Any constant is
valid, as long as it does not depend on the data."""
MIXTURE_VARIANCE = TUNED_FOR / (2 * log(1 / ALPHA) + log(1 + 2 * log(1 / ALPHA)))
"""m = 1 / rho^2, by the paper's approximation of the rho whose boundary is the narrowest at TUNED_FOR."""


def radius(variance: float) -> float:
    """How far a sum of centred terms may ever be from 0, when the estimate of its variance is `variance`."""
    total = variance + MIXTURE_VARIANCE
    return sqrt(total * log(total / (MIXTURE_VARIANCE * ALPHA**2)))


def estimate(sum_of_values: float, weight: float, variance: float, *, low: float, high: float) -> Estimate:
    """The mean `sum_of_values / weight` of values whose mean lies in [low, high].

    variance: of the sum of values minus their means. Without weight nothing is known.
    """
    if weight <= 0:
        return Estimate(mean=0.0, low=low, high=high)
    mean, half_width = sum_of_values / weight, radius(variance) / weight
    return Estimate(mean=mean, low=max(low, mean - half_width), high=min(high, mean + half_width))
