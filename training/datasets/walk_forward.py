"""Examples for the second stage: what users did next, at several moments before the test.

The towers and the tables must not have seen the examples, so all of them are from the validation part. In the temporal
split it is divided into windows, and each window contributes every user's first item in it, as in the test: with one
moment per user, what happened to be popular in one week decides too much. Where that leaves room for more examples, the
next items in the windows follow. In leave-one-out, a user has one validation item, and its own moment.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import History, Sequences
from training.datasets.splits import NOWHERE

WINDOWS = 6
ITEMS_PER_WINDOW = 5


class PastExample(NamedTuple):
    user: int
    history: History
    seen: History
    """The items of the history that count as seen."""
    target: int
    """The item that came next."""
    as_of: int
    """A Unix time; what the features know is from before it."""


def past_examples(sequences: Sequences, seed: int, most: int) -> list[PastExample]:
    """At most `most`, in random order of the users; in windows, all first items come before any second one."""
    users = np.random.default_rng(seed).permutation(sequences.num_users).tolist()
    cuts = sequences.split.cuts
    found: Iterator[PastExample]
    if cuts is None:
        found = chain.from_iterable(_of_validation(sequences, user) for user in users)
    else:
        found = _of_all_windows(sequences, users, np.linspace(*cuts, WINDOWS + 1).astype(np.int64))
    return list(islice(found, most))


def before_the_test(sequences: Sequences) -> Sequences:
    """The same log with everything that a request knows when the test begins as the part to learn from.

    In leave-one-out, that remains the training part.
    """
    cuts = sequences.split.cuts
    if cuts is None:
        return sequences
    users = np.repeat(np.arange(sequences.num_users), np.diff(sequences.offsets))
    known = np.bincount(users[np.asarray(sequences.times) < cuts[1]], minlength=sequences.num_users)
    return replace(sequences, split=replace(sequences.split, train_lengths=known))


def _of_validation(sequences: Sequences, user: int) -> list[PastExample]:
    place = int(sequences.split.validation_places[user])
    if place == NOWHERE:
        return []
    return [_example(sequences, user, place, int(sequences.times[sequences.offsets[user] + place]))]


def _of_all_windows(sequences: Sequences, users: Iterable[int], starts: NDArray[np.int64]) -> Iterator[PastExample]:
    """starts: of the windows, and the end of the last one."""
    for nth in range(ITEMS_PER_WINDOW):
        found_for = []
        for user in users:
            found = _of_windows(sequences, user, starts, nth)
            if found:
                found_for.append(user)
                yield from found
        users = found_for


def _of_windows(sequences: Sequences, user: int, starts: NDArray[np.int64], nth: int) -> list[PastExample]:
    """The user's nth item in each window, from 0, if the user has items before the window."""
    times = sequences.times[sequences.offsets[user] : sequences.offsets[user + 1]]
    places = np.searchsorted(times, starts)
    return [
        _example(sequences, user, int(place) + nth, int(start))
        for place, end, start in zip(places, places[1:], starts, strict=False)
        if place > 0 and place + nth < end
    ]


def _example(sequences: Sequences, user: int, place: int, as_of: int) -> PastExample:
    start = sequences.offsets[user]
    history, seen = sequences.items[start : start + place], sequences.seen_before(user, place)
    return PastExample(user, history, seen, int(sequences.items[start + place]), as_of)
