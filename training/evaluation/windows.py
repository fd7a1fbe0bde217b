"""The held-out examples of validation, of the test and of newcomers, with what was known when their window began."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import Example, History, Sequences
from training.evaluation.sample import MAX_USERS, sample_users


@dataclass(frozen=True)
class Window:
    users: NDArray[np.int64]
    """[examples], in ascending order; they have the same numbers in every split of the same data."""
    examples: list[Example]
    seen: list[History]
    """The items of each example's history that count as seen."""
    baskets: list[History]
    """The last basket of each example's history: its items with the latest timestamp."""
    known_items: NDArray[np.int32]
    """[events]: the items of everything that happened before the window, of all users."""
    known_ages: NDArray[np.int64]
    """[events]: how long before the window each of them happened, in seconds."""


def window_of_validation(sequences: Sequences, seed: int, limit: int = MAX_USERS) -> Window:
    """At most `limit` of the validated users, a random sample."""
    cut = None if sequences.split.cuts is None else sequences.split.cuts[0]
    users = sample_users(sequences.validated_users, seed, limit)
    return _window(sequences, users, sequences.split.validation_places, cut)


def window_of_test(sequences: Sequences, seed: int, limit: int = MAX_USERS) -> Window:
    """At most `limit` of the tested users, a random sample."""
    cut = None if sequences.split.cuts is None else sequences.split.cuts[1]
    users = sample_users(sequences.tested_users, seed, limit)
    return _window(sequences, users, sequences.split.test_places, cut)


def window_of_newcomers(sequences: Sequences, seed: int) -> Window:
    """The second items of users who joined after the cut; empty in the leave-one-out split."""
    cut = None if sequences.split.cuts is None else sequences.split.cuts[1]
    users = sample_users(sequences.newcomers, seed)
    return _window(sequences, users, sequences.split.newcomer_places, cut)


def _window(sequences: Sequences, users: NDArray[np.int64], places: NDArray[np.int64], cut: int | None) -> Window:
    """With a cut, everything before it is known. Without one, it is the training part, up to its latest event."""
    items, times = np.asarray(sequences.items), np.asarray(sequences.times)
    if cut is None:
        owners = np.repeat(np.arange(sequences.num_users), np.diff(sequences.offsets))
        known = np.arange(len(items)) - sequences.offsets[owners] < sequences.train_lengths[owners]
        cut = int(times[known].max(initial=0)) + 1
    else:
        known = times < cut
    starts = sequences.offsets[users]
    return Window(
        users=users,
        examples=[
            (items[start : start + place], int(items[start + place]))
            for start, place in zip(starts, places[users], strict=True)
        ],
        seen=[sequences.seen_before(int(user), int(place)) for user, place in zip(users, places[users], strict=True)],
        baskets=[
            _last_basket(items[start : start + place], times[start : start + place])
            for start, place in zip(starts, places[users], strict=True)
        ],
        known_items=items[known],
        known_ages=cut - times[known],
    )


def _last_basket(history: History, times: NDArray[np.int64]) -> History:
    basket: History = history[times == times[-1]]
    return basket
