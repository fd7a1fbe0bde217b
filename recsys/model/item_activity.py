"""How much an item is used at a moment: its share of all recent events, and its age."""

import numpy as np
from numpy.typing import NDArray

from recsys.model.neighbours import Indices

ACTIVITY_NAMES = ("log_share_7", "log_share_30", "trend", "log_age")
"""By the half-lives of `recsys.contracts.activity`, in days."""
PER_MILLION = 1e6
UNSEEN = 1e-9
"""Added to shares, so that their ratio exists."""

Activity = NDArray[np.float32]
"""[num_items + 1, len(ACTIVITY_NAMES)]; NaN if the log has no times."""


def activity_of(shares: NDArray[np.float64], age_days: NDArray[np.float64]) -> Activity:
    """shares [half-lives, num_items + 1] of all events, which fade; age_days [num_items + 1], NaN if unseen."""
    logs = np.log1p(PER_MILLION * shares)
    trend = np.log((shares[0] + UNSEEN) / (shares[-1] + UNSEEN))
    return np.stack([*logs, trend, np.log1p(age_days)], axis=1).astype(np.float32)


def unknown_activity(num_items: int) -> Activity:
    return np.full((num_items + 1, len(ACTIVITY_NAMES)), np.nan, dtype=np.float32)


def most_active(activity: Activity, count: int) -> Indices:
    """The item indices with the largest share of the last days, best first; none if the log has no times."""
    shares = activity[1:, 0]
    if np.isnan(shares).all():
        return np.empty(0, dtype=np.int64)
    return np.argsort(-shares, kind="stable")[:count] + 1
