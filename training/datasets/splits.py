"""Which of a user's items are for training, and which are predicted in validation and in the test.

leave_one_out   train on s[:-2], validate on s[-2], test on s[-1]. Users with fewer than three interactions only
                contribute to training. Everybody is tested, on the model that is then served.
temporal        one cut in time for everybody: train on what happened before it, validate on what happened between it
                and a second cut, test on what happened from then on. For measuring only: what is served should not
                miss the latest fifth of the log.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import DataError

HELD_OUT = 2
NOWHERE = -1
CUTS = (0.8, 0.9)
"""Before which shares of all interactions the temporal split cuts, for validation and for the test.

Leave-one-out lets a model learn from what others did after the moment that it is tested at. Such a model recommends
items that were not out yet, and how much it gains by that differs from model to model (Ji et al. 2023, "A Critical
Study on Data Leakage in Recommender System Offline Evaluation", TOIS 41(3); Hidasi and Czapp 2023, "Widespread Flaws in
Offline Evaluation of Recommender Systems", RecSys). One cut for everybody rules it out. Validation is cut off in the
same way before the test, so that what is chosen on it is chosen for the same task (Gusak et al. 2025, "Time to Split:
Exploring Data Splitting Strategies for Offline Evaluation of Sequential Recommenders"). Shares of the interactions
instead of lengths of time, as logs grow: a tenth for each window leaves most of any log to learn from.
"""

UserLengths = NDArray[np.int64]
"""[num_users]"""


class SplitKind(StrEnum):
    LEAVE_ONE_OUT = "leave_one_out"
    TEMPORAL = "temporal"


@dataclass(frozen=True)
class Split:
    train_lengths: UserLengths
    """How many of each user's items, from the first on, are for training."""
    validation_places: UserLengths
    """Where in each user's items the one for validation stands, its history before it; NOWHERE where there is none."""
    test_places: UserLengths
    """The same of the test item."""
    newcomer_places: UserLengths
    """The same of a second item, of users who were not there before the test: they are reported for themselves."""
    cuts: tuple[int, int] | None = None
    """The first moments of validation and of the test, where they are the same for everybody."""


def leave_one_out(lengths: UserLengths) -> Split:
    held_out = lengths > HELD_OUT
    return Split(
        train_lengths=np.where(held_out, lengths - HELD_OUT, lengths),
        validation_places=np.where(held_out, lengths - 2, NOWHERE),
        test_places=np.where(held_out, lengths - 1, NOWHERE),
        newcomer_places=np.full_like(lengths, NOWHERE),
    )


def temporal(lengths: UserLengths, times: NDArray[np.int64], file: Path) -> Split:
    """Predict, in either window, the first item of each user who was there before it.

    Times [interactions] are all users' one after the other. Raises DataError, about `file`, where they allow for no
    such split.
    """
    _refuse_what_are_no_times(lengths, times, file)
    validation_cut, test_cut = (int(cut) for cut in np.quantile(times, CUTS, method="higher"))
    users = np.repeat(np.arange(len(lengths)), lengths)
    before_validation, before_test = (
        np.bincount(users[times < cut], minlength=len(lengths)) for cut in (validation_cut, test_cut)
    )
    split = Split(
        train_lengths=before_validation,
        validation_places=_first_of(before_validation, before_test),
        test_places=_first_of(before_test, lengths),
        newcomer_places=np.where((before_test == 0) & (lengths > 1), 1, NOWHERE),
        cuts=(validation_cut, test_cut),
    )
    validated, tested = (int((places != NOWHERE).sum()) for places in (split.validation_places, split.test_places))
    trained = int(before_validation.sum())
    if not (validated and tested):
        raise DataError(
            f"its times allow for no split in time: {trained:,} of {len(times):,} interactions are before "
            f"{validation_cut:,}; of the users from before it {validated:,} come again before {test_cut:,}, and of "
            f"those from before {test_cut:,} {tested:,} come again after it",
            file=file,
            column="timestamp",
        )
    return split


def _first_of(start: UserLengths, end: UserLengths) -> UserLengths:
    """The first place of a window from `start` to `end`, of users who have a history and are in the window."""
    return np.where((start > 0) & (start < end), start, NOWHERE)


def _refuse_what_are_no_times(lengths: UserLengths, times: NDArray[np.int64], file: Path) -> None:
    firsts = np.cumsum(lengths) - lengths
    within_user = np.ones(len(times), dtype=bool)
    within_user[firsts] = False
    if (np.diff(times, prepend=times[:1])[within_user] < 0).any():
        raise DataError("it is not sorted by time; run `make data` again", file=file, column="timestamp")
    if times.min() == times.max():
        problem = f"all {len(times):,} interactions are at one time, {int(times[0]):,}"
    elif len(lengths) > 1 and len(np.unique(times[firsts])) == 1:
        problem = (
            f"every one of {len(lengths):,} users begins at {int(times[0]):,}, so these are places in a sequence "
            "instead of times"
        )
    else:
        return
    raise DataError(f"{problem}; nothing is before or after a cut in time", file=file, column="timestamp")
