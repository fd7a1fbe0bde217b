"""Examples for the second stage: what users did next, at several moments before the test.

The towers and the tables must not have seen the examples, so all of them are from the validation part. In the temporal
split it is divided into windows, and each window contributes every user's first item in it, as in the test: with one
moment per user, what happened to be popular in one week decides too much. In leave-one-out, a user has one validation
item, and its own moment.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import History, Sequences
from training.datasets.splits import NOWHERE

WINDOWS = 6


class PastExample(NamedTuple):
    user: int
    history: History
    target: int
    """The item that came next."""
    as_of: int
    """A Unix time; what the features know is from before it."""


def past_examples(sequences: Sequences, seed: int, most: int) -> list[PastExample]:
    """In random order of the users; at most about `most`, with all examples of every chosen user."""
    users = np.random.default_rng(seed).permutation(sequences.num_users)
    cuts = sequences.split.cuts
    starts = None if cuts is None else np.linspace(*cuts, WINDOWS + 1).astype(np.int64)
    examples: list[PastExample] = []
    for user in users:
        if len(examples) >= most:
            break
        examples += (
            _of_validation(sequences, int(user)) if starts is None else _of_windows(sequences, int(user), starts)
        )
    return examples


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


def _of_windows(sequences: Sequences, user: int, starts: NDArray[np.int64]) -> list[PastExample]:
    """starts: of the windows, and the end of the last one."""
    times = sequences.times[sequences.offsets[user] : sequences.offsets[user + 1]]
    places = np.searchsorted(times, starts)
    return [
        _example(sequences, user, int(place), int(start))
        for place, end, start in zip(places, places[1:], starts, strict=False)
        if 0 < place < end
    ]


def _example(sequences: Sequences, user: int, place: int, as_of: int) -> PastExample:
    start = sequences.offsets[user]
    return PastExample(user, sequences.items[start : start + place], int(sequences.items[start + place]), as_of)
