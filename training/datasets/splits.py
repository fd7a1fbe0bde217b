"""Split every user's items into training, validation and test.

leave_one_out   train on s[:-2], validate on s[-2], test on s[-1]. Users with fewer than three interactions only
                contribute to training. The tested model is the one that is served.
temporal        the same two points in time for all users: train before the first, validate between them, test after
                the second. For measuring only, because the served model should not miss the latest fifth of the log.
rolling         several temporal splits, one after another: each tests on the window that the next one validates on.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.errors import DataError

HELD_OUT = 2
NOWHERE = -1
CUTS = (0.8, 0.9)
"""The shares of all interactions before validation and before the test, in the temporal split.

With leave-one-out a model learns from interactions of other users after the time of the test item. It can recommend
items that were not yet released, and the advantage differs from model to model (Ji et al. 2023, "A Critical Study on
Data Leakage in Recommender System Offline Evaluation", TOIS 41(3); Hidasi and Czapp 2023, "Widespread Flaws in Offline
Evaluation of Recommender Systems", RecSys). Global cuts in time prevent this leakage. Validation precedes the test in
the same way, so that model selection has the same task (Gusak et al. 2025, "Time to Split: Exploring Data Splitting
Strategies for Offline Evaluation of Sequential Recommenders"). The windows are shares of the interactions, not lengths
of time, because logs grow: a tenth for each window leaves most of any log for training.
"""

ROLLING_WINDOW = 0.05
"""The share of all interactions in each window of the rolling split. Its last test window ends with the log."""
DEFAULT_CUTS, MAX_CUTS = 4, 10

UserLengths = NDArray[np.int64]
"""[num_users]"""


class SplitKind(StrEnum):
    LEAVE_ONE_OUT = "leave_one_out"
    TEMPORAL = "temporal"
    ROLLING = "rolling"


class Shares(NamedTuple):
    """The shares of all interactions before validation, before the test, and before the end of the test."""

    validation: float
    test: float
    end: float


TEMPORAL_SHARES = Shares(*CUTS, 1.0)


def rolling_shares(cut: int, cuts: int) -> Shares:
    """Those of a cut of the rolling split, from 1 to `cuts`; the last one is the latest."""
    later = cuts - cut
    return Shares(*(round(1.0 - (later + windows) * ROLLING_WINDOW, 6) for windows in (2, 1, 0)))


@dataclass(frozen=True)
class Split:
    train_lengths: UserLengths
    """How many of each user's items are for training, counted from the first."""
    validation_places: UserLengths
    """The position of each user's validation item, whose history is everything before it; NOWHERE if there is none."""
    test_places: UserLengths
    """The same for the test item."""
    newcomer_places: UserLengths
    """The same for the second item of users without interactions before the test; they are reported separately."""
    cuts: tuple[int, int] | None = None
    """The first timestamps of validation and of the test, if they are the same for all users."""
    end: int | None = None
    """The first timestamp after the test, if the test ends before the log does."""


def leave_one_out(lengths: UserLengths) -> Split:
    held_out = lengths > HELD_OUT
    return Split(
        train_lengths=np.where(held_out, lengths - HELD_OUT, lengths),
        validation_places=np.where(held_out, lengths - 2, NOWHERE),
        test_places=np.where(held_out, lengths - 1, NOWHERE),
        newcomer_places=np.full_like(lengths, NOWHERE),
    )


def temporal(lengths: UserLengths, times: NDArray[np.int64], file: Path, shares: Shares = TEMPORAL_SHARES) -> Split:
    """Hold out, in either window, the first item of each user with earlier interactions.

    times [interactions] holds the timestamps of all users, one user after another. Raises DataError, about `file`, if
    they do not allow such a split.
    """
    _require_times(lengths, times, file)
    validation_cut, test_cut, end = (int(cut) for cut in np.quantile(times, shares, method="higher"))
    if shares.end == 1.0:
        end += 1
    users = np.repeat(np.arange(len(lengths)), lengths)
    before_validation, before_test, before_end = (
        np.bincount(users[times < cut], minlength=len(lengths)) for cut in (validation_cut, test_cut, end)
    )
    split = Split(
        train_lengths=before_validation,
        validation_places=_first_of(before_validation, before_test),
        test_places=_first_of(before_test, before_end),
        newcomer_places=np.where((before_test == 0) & (before_end > 1), 1, NOWHERE),
        cuts=(validation_cut, test_cut),
        end=None if shares.end == 1.0 else end,
    )
    validated, tested = (int((places != NOWHERE).sum()) for places in (split.validation_places, split.test_places))
    trained = int(before_validation.sum())
    if not (validated and tested):
        raise DataError(
            f"its timestamps do not allow a split in time: {trained:,} of {len(times):,} interactions are before "
            f"{validation_cut:,}; of the users from before it {validated:,} come again before {test_cut:,}, and of "
            f"those from before {test_cut:,} {tested:,} come again after it, before {end:,}",
            file=file,
            column="timestamp",
        )
    return split


def _first_of(start: UserLengths, end: UserLengths) -> UserLengths:
    """The first position of a window from `start` to `end`, for users with a history and an item in the window."""
    return np.where((start > 0) & (start < end), start, NOWHERE)


def _require_times(lengths: UserLengths, times: NDArray[np.int64], file: Path) -> None:
    firsts = np.cumsum(lengths) - lengths
    within_user = np.ones(len(times), dtype=bool)
    within_user[firsts] = False
    if (np.diff(times, prepend=times[:1])[within_user] < 0).any():
        raise DataError("it is not sorted by time; run `make data` again", file=file, column="timestamp")
    problem = not_times(lengths, times)
    if problem is not None:
        raise DataError(f"{problem}; it cannot be split in time", file=file, column="timestamp")


def not_times(lengths: UserLengths, times: NDArray[np.int64]) -> str | None:
    """Why the timestamps are no times, but positions in a sequence, for example; None if they are times."""
    firsts = np.cumsum(lengths) - lengths
    if times.min() == times.max():
        return f"all {len(times):,} interactions have the same timestamp, {int(times[0]):,}"
    if len(lengths) > 1 and len(np.unique(times[firsts])) == 1:
        return (
            f"every one of {len(lengths):,} users begins at {int(times[0]):,}, so these are positions in a sequence "
            "instead of timestamps"
        )
    return None
