from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataError, JobError
from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, write_processed
from training.datasets.sequences import Sequences, TrainBatches, load_sequences, pad


def load(tmp_path: Path, table: dict[str, list[str]], **catalogue: list[str]) -> Sequences:
    settings = job_settings(tmp_path)
    items = {item: [] for row in table.values() for item in row} | catalogue
    write_processed(settings, table, items)
    return load_sequences(settings.processed_dir, settings.models_dir)


def test_leave_one_out_split_of_a_hand_made_table(tmp_path: Path) -> None:
    sequences = load(
        tmp_path,
        {"ann": ["a", "b", "a", "c", "d"], "bob": ["b", "a"], "cy": ["d", "b", "c"], "di": ["e"]},
        untouched=[],
    )
    ids = sequences.vocabulary.item_id

    def names(items: np.ndarray) -> list[str]:
        return [ids(int(index)) for index in items]

    assert [names(sequences.train(user)) for user in range(4)] == [["a", "b", "a"], ["b", "a"], ["d"], ["e"]]
    assert sequences.validated_users.tolist() == sequences.tested_users.tolist() == [0, 2]
    history, target = sequences.validation(0)
    assert (names(history), ids(target)) == (["a", "b", "a"], "c")
    history, target = sequences.test(0)
    assert (names(history), ids(target)) == (["a", "b", "a", "c"], "d")
    history, target = sequences.validation(2)
    assert (names(history), ids(target)) == (["d"], "b")
    history, target = sequences.test(2)
    assert (names(history), ids(target)) == (["d", "b"], "c")

    # Most trained first; held-out events don't count; what training never saw comes last; padding has no count.
    assert list(sequences.vocabulary.item_ids) == ["a", "b", "d", "e", "c", "untouched"]
    assert sequences.train_counts().tolist() == [0, 3, 2, 1, 1, 0, 0]


def test_an_item_several_times_in_a_row_is_one_step(tmp_path: Path) -> None:
    sequences = load(tmp_path, {"ann": ["a", "a", "b", "b", "b", "a", "c"], "bob": ["c", "b", "a"]})
    assert [len(sequences.test(user)[0]) + 1 for user in range(2)] == [4, 3]


def test_conversion_is_cached_and_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tmp_path, {"ann": ["a", "b", "c"], "bob": ["b", "c"]})
    settings = job_settings(tmp_path)
    monkeypatch.setattr("training.datasets.sequences._convert", None)
    again = load_sequences(settings.processed_dir, settings.models_dir)
    assert isinstance(again.items, np.memmap)
    assert again.items.tolist() == first.items.tolist()


def test_missing_and_unsorted_data_are_refused_in_a_sentence(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    with pytest.raises(JobError, match="make data"):
        load_sequences(settings.processed_dir, settings.models_dir)
    write_processed(settings, {"ann": ["a", "b"], "bob": ["c", "a"]})
    path = settings.processed_dir / "interactions.parquet"
    events = pl.read_parquet(path)
    events[[0, 2, 1, 3]].write_parquet(path)
    with pytest.raises(DataError, match="not sorted"):
        load_sequences(settings.processed_dir, settings.models_dir)
    events.with_columns(item_id=pl.lit("elsewhere")).write_parquet(path)
    with pytest.raises(DataError, match="4 interactions"):
        load_sequences(settings.processed_dir, settings.models_dir)
    events.clear().write_parquet(path)
    with pytest.raises(DataError, match="no interactions"):
        load_sequences(settings.processed_dir, settings.models_dir)


def test_pad_puts_zeros_to_the_right() -> None:
    padded, lengths = pad([np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)])
    assert padded.tolist() == [[5, 6], [7, 0]]
    assert lengths.tolist() == [2, 1]


def test_batches_hold_every_trainable_user_once_and_shift_targets_by_one(tmp_path: Path) -> None:
    table = cyclic_sequences(num_users=60, num_items=40, length=12) | {"v": ["i000", "i001", "i002"], "w": ["i000"]}
    sequences = load(tmp_path, table)
    batches = TrainBatches(sequences, 6, sequences_per_batch=8, min_items_per_batch=1, earlier_windows=0.5, seed=5)
    first, second = batches.of_epoch(0), batches.of_epoch(1)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in batches.of_epoch(0)]
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    spans = np.concatenate(first)
    users = np.searchsorted(sequences.offsets, spans[:, 0], side="right") - 1
    # v has one item left to train on and w has one item: neither has a next one.
    assert sorted(users.tolist()) == list(range(60))
    from_the_end = (sequences.offsets[users] + sequences.train_lengths[users]) - spans[:, 1]
    assert set(from_the_end.tolist()) == {0, 1, 2, 3}
    assert 0.4 < np.mean(from_the_end == 0) < 0.9
    for batch in first:
        items, lengths, targets, _ = batches.load(batch)
        assert items.shape == targets.shape == (len(batch), 6)
        for row, (start, end) in enumerate(batch):
            assert items[row, : lengths[row]].tolist() == sequences.items[start : end - 1].tolist()
            assert targets[row, : lengths[row]].tolist() == sequences.items[start + 1 : end].tolist()


def test_batches_of_short_sequences_hold_more_of_them(tmp_path: Path) -> None:
    sequences = load(tmp_path, cyclic_sequences(num_users=100, num_items=40, length=7))
    batches = TrainBatches(sequences, 50, sequences_per_batch=4, min_items_per_batch=100, earlier_windows=0.5, seed=5)
    assert {len(batch) for batch in batches.of_epoch(0)} == {20}
