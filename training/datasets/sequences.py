"""Prepared interactions -> memory-mapped sequences of item indices, their split, and training batches."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import DataError, JobError
from recsys.model.files import VOCABULARY_FILE
from recsys.model.vocabulary import Vocabulary
from training.atomic import atomic_directory, exclusive_lock
from training.datasets.event_kinds import by_kind, steps_of
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, MANIFEST_FILE, prepared_kinds
from training.datasets.splits import (
    NOWHERE,
    TEMPORAL_SHARES,
    Shares,
    Split,
    SplitKind,
    leave_one_out,
    not_times,
    temporal,
)

SEQUENCES_VERSION = 3
ITEMS_ARRAY = "items.npy"
OFFSETS_ARRAY = "offsets.npy"
TIMES_ARRAY = "times.npy"
WEIGHTS_ARRAY = "weights.npy"
SEEN_ARRAY = "seen.npy"

SAMPLED_HISTORIES = 500
MAX_SAMPLED_ITEMS = 1000
"""Per history."""


History = NDArray[np.int32]
"""Item indices of one user, oldest first."""
Example = tuple[History, int]
"""A history and the item index that came next."""


@dataclass(frozen=True)
class Sequences:
    """User u's items are items[offsets[u]:offsets[u + 1]], oldest first, as item indices of `vocabulary`."""

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    vocabulary: Vocabulary
    times: NDArray[np.int64]
    """The timestamp of each of `items`. Repeated interactions with one item in a row count as the first of them."""
    weights: NDArray[np.float32]
    """How much each of `items` counts: the highest weight of its interactions, by their kinds."""
    seen: NDArray[np.bool_]
    """Whether each of `items` counts as seen, by the kind of at least one of its interactions."""
    split: Split

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        return len(self.vocabulary)

    @property
    def train_lengths(self) -> NDArray[np.int64]:
        """[num_users]: how many of each user's items are for training."""
        return self.split.train_lengths

    @property
    def has_times(self) -> bool:
        """Whether the timestamps are times, and not positions in a sequence."""
        return not_times(np.diff(self.offsets), np.asarray(self.times)) is None

    @property
    def validated_users(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split.validation_places != NOWHERE)

    @property
    def tested_users(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split.test_places != NOWHERE)

    def train(self, user: int) -> History:
        start = self.offsets[user]
        return self.items[start : start + self.train_lengths[user]]

    def validation(self, user: int) -> Example:
        """History and target; the user must be one of `validated_users`."""
        return self._example(user, self.split.validation_places[user])

    def test(self, user: int) -> Example:
        """History and target; the user must be one of `tested_users`."""
        return self._example(user, self.split.test_places[user])

    @property
    def newcomers(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split.newcomer_places != NOWHERE)

    def newcomer_test(self, user: int) -> Example:
        """History and target; the user must be one of `newcomers`."""
        return self._example(user, self.split.newcomer_places[user])

    def seen_before(self, user: int, place: int) -> History:
        """The items before this place of the user's that count as seen."""
        before = slice(self.offsets[user], self.offsets[user] + place)
        return self.items[before][self.seen[before]]

    def _example(self, user: int, place: np.int64) -> Example:
        start = self.offsets[user]
        return self.items[start : start + place], int(self.items[start + place])

    def train_events(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Items [events] and users [events] of the training part, in order."""
        users = np.repeat(np.arange(self.num_users), np.diff(self.offsets))
        kept = self._trained(users)
        return np.asarray(self.items)[kept], users[kept]

    def train_weights(self) -> NDArray[np.float32]:
        """[events]: the weights of `train_events`."""
        return np.asarray(self.weights)[self._trained(np.repeat(np.arange(self.num_users), np.diff(self.offsets)))]

    def _trained(self, users: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `items`, whose users these are, is in the training part."""
        position = np.arange(len(self.items)) - self.offsets[users]
        return position < self.train_lengths[users]

    def train_counts(self) -> NDArray[np.int64]:
        """[num_items + 1]: the training interactions of each item; 0 for index 0, the padding."""
        return np.bincount(self.train_events()[0], minlength=self.num_items + 1)


def sequences_hash(processed_dir: Path) -> str:
    """sha256, in hex, of what sequences are made of: the interactions file, the item ids, and the meanings of kinds.

    Raises JobError if no data is prepared.
    """
    for name in (INTERACTIONS_FILE, CATALOGUE_FILE, MANIFEST_FILE):
        if not (processed_dir / name).exists():
            raise JobError(f"no prepared data in {processed_dir} ({name} is missing); run `make data` first")
    with (processed_dir / INTERACTIONS_FILE).open("rb") as file:
        total = hashlib.file_digest(file, "sha256")
    item_ids = pl.read_parquet(processed_dir / CATALOGUE_FILE, columns=["item_id"])["item_id"]
    total.update(json.dumps(item_ids.to_list()).encode())
    if (kinds := prepared_kinds(processed_dir)).root:
        total.update(kinds.model_dump_json().encode())
    return total.hexdigest()


def load_sequences(
    processed_dir: Path,
    cache_root: Path,
    kind: SplitKind = SplitKind.LEAVE_ONE_OUT,
    shares: Shares = TEMPORAL_SHARES,
) -> Sequences:
    """The sequences of the prepared data, memory-mapped from a cache in `cache_root` that is written on first use.

    `shares` says where a split in time is cut. Sequences of different shares need different cache roots.
    """
    cache = cache_root / f"sequences-{sequences_hash(processed_dir)[:12]}-{kind}-v{SEQUENCES_VERSION}"
    with exclusive_lock(cache):
        if not cache.exists():
            with atomic_directory(cache) as directory:
                _convert(processed_dir, directory, kind, shares)
    offsets, times = np.load(cache / OFFSETS_ARRAY), np.load(cache / TIMES_ARRAY, mmap_mode="r")
    return Sequences(
        items=np.load(cache / ITEMS_ARRAY, mmap_mode="r"),
        offsets=offsets,
        vocabulary=Vocabulary.load(cache / VOCABULARY_FILE),
        times=times,
        weights=np.load(cache / WEIGHTS_ARRAY, mmap_mode="r"),
        seen=np.load(cache / SEEN_ARRAY, mmap_mode="r"),
        split=_split(kind, shares, np.diff(offsets), times, processed_dir / INTERACTIONS_FILE),
    )


def _split(kind: SplitKind, shares: Shares, lengths: NDArray[np.int64], times: NDArray[np.int64], file: Path) -> Split:
    if kind == SplitKind.LEAVE_ONE_OUT:
        return leave_one_out(lengths)
    return temporal(lengths, np.asarray(times), file, shares)


def _convert(processed_dir: Path, directory: Path, kind: SplitKind, shares: Shares) -> None:
    file = processed_dir / INTERACTIONS_FILE
    catalogue = pl.read_parquet(processed_dir / CATALOGUE_FILE, columns=["item_id"]).with_row_index("row")
    kinds = prepared_kinds(processed_dir)
    events = (
        pl.scan_parquet(file)
        .filter(steps_of(pl.col("event"), kinds))
        .with_columns(
            weight=by_kind(pl.col("event"), kinds, "weight"), seen=by_kind(pl.col("event"), kinds, "marks_seen")
        )
        .drop("event")
        .collect()
    )
    if events.height == 0:
        raise DataError("it holds no interactions; run `make data` again", file=file)
    new_user = (events["user_id"] != events["user_id"].shift(1)).fill_null(True)
    if int(new_user.sum()) != events["user_id"].n_unique():
        raise DataError("it is not sorted by user; run `make data` again", file=file, column="user_id")
    joined = events.join(catalogue, on="item_id", how="left", maintain_order="left")["row"]
    if joined.null_count():
        raise DataError(
            f"{joined.null_count()} interactions are with items that are missing in {CATALOGUE_FILE}", file=file
        )

    rows = joined.to_numpy().astype(np.int64)
    starts = new_user.to_numpy()
    # A view, a click and a purchase of one item in a row are one step of a sequence: predicting the current item again
    # teaches nothing, and it would be filtered as seen.
    kept = starts | (rows != np.roll(rows, 1))
    rows, users = rows[kept], (np.cumsum(starts) - 1)[kept]
    lengths = np.bincount(users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = events["timestamp"].to_numpy().astype(np.int64)[kept]
    split = _split(kind, shares, lengths, times, file)
    trained = np.arange(len(rows)) - offsets[users] < split.train_lengths[users]

    # Items in descending order of training count, so that items seen in training are the first rows of the item table.
    counts = np.bincount(rows[trained], minlength=catalogue.height)
    order = np.lexsort((np.arange(catalogue.height), -counts))
    index_of_row = np.empty(catalogue.height, dtype=np.int32)
    index_of_row[order] = np.arange(1, catalogue.height + 1, dtype=np.int32)
    np.save(directory / ITEMS_ARRAY, index_of_row[rows])
    np.save(directory / OFFSETS_ARRAY, offsets)
    np.save(directory / TIMES_ARRAY, times)
    first_of_step = np.flatnonzero(kept)
    np.save(directory / WEIGHTS_ARRAY, np.maximum.reduceat(events["weight"].to_numpy(), first_of_step))
    np.save(directory / SEEN_ARRAY, np.logical_or.reduceat(events["seen"].to_numpy(), first_of_step))
    Vocabulary(catalogue["item_id"][order].to_list()).save(directory / VOCABULARY_FILE)


def sample_histories(sequences: Sequences, seed: int) -> list[NDArray[np.int64]]:
    """Item indices of at most SAMPLED_HISTORIES users, oldest first: half of them complete, half of them prefixes.

    Serving has histories of every length, and most of them are shorter than those at the end of a log.
    """
    random = np.random.default_rng(seed)
    users = random.permutation(sequences.num_users)[:SAMPLED_HISTORIES]
    sampled = []
    for place, user in enumerate(users):
        start, end = int(sequences.offsets[user]), int(sequences.offsets[user + 1])
        length = end - start if place % 2 == 0 else int((end - start) ** random.random())
        history = sequences.items[start : start + max(1, length)]
        sampled.append(np.asarray(history[-MAX_SAMPLED_ITEMS:], dtype=np.int64))
    return sampled


def pad(histories: list[History]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right-padded item indices [batch, longest] and lengths [batch]."""
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    padded = np.zeros((len(histories), int(lengths.max())), dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(histories)
    return padded, lengths


Spans = NDArray[np.int64]
"""[batch, 2]: the start and end of each sequence's window in `Sequences.items`."""


@dataclass(frozen=True)
class TrainBatches:
    """Batches of training sequences of similar length, in an order that depends only on seed and epoch."""

    sequences: Sequences
    max_history: int
    sequences_per_batch: int
    min_items_per_batch: int
    earlier_windows: float
    seed: int

    def of_epoch(self, epoch: int) -> list[Spans]:
        random = np.random.default_rng((self.seed, epoch))
        lengths = self.sequences.train_lengths
        users = np.flatnonzero(lengths >= 2)
        starts, lengths = self.sequences.offsets[users], lengths[users]
        ends = starts + lengths
        # With probability `earlier_windows` a long sequence is cut to a random window, so that its earlier items are
        # used too. Otherwise it is cut to its latest items, which are most similar to the next one.
        longest = self.max_history + 1
        earlier = np.maximum(starts + longest, ends - random.integers(0, lengths))
        ends = np.where((lengths > longest) & (random.random(len(users)) < self.earlier_windows), earlier, ends)
        spans = np.stack([np.maximum(starts, ends - longest), ends], axis=1)
        # Sorting by noisy length gives batches with little padding that still differ from epoch to epoch.
        window = spans[:, 1] - spans[:, 0]
        order = np.argsort(window * random.uniform(0.9, 1.1, len(users)), kind="stable")
        spans, window = spans[order], window[order]
        batches: list[Spans] = []
        start = 0
        while start < len(spans):
            size = max(self.sequences_per_batch, self.min_items_per_batch // int(window[start]))
            batches.append(spans[start : start + size])
            start += size
        return [batches[i] for i in random.permutation(len(batches))]

    def load(self, spans: Spans) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Item indices [batch, length], lengths [batch], and at every position the next item and its weight."""
        items, lengths = pad([self.sequences.items[start:end] for start, end in spans])
        weights = np.zeros(items.shape, dtype=np.float32)
        weights[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate(
            [self.sequences.weights[start:end] for start, end in spans]
        )
        return items[:, :-1], lengths - 1, items[:, 1:], weights[:, 1:]
