"""Statistics of a log that is too large for one pass count all users alike, and not the first ones by id."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tests.unit.sequence_fixtures import job_settings, write_processed
from training.datasets.sequences import Sequences, load_sequences
from training.models import cooccurrence, ease

FIRST, LAST = ["a", "b", "c"], ["x", "y", "z"]
USERS = 60


@pytest.fixture
def sequences(tmp_path: Path) -> Sequences:
    """The first half of the users by id knows other items than the second half. Each trains on four items."""
    settings = job_settings(tmp_path)
    half = USERS // 2
    log = {f"u{user:02}": [*(FIRST if user < half else LAST), "end", "held", "out"] for user in range(USERS)}
    write_processed(settings, log)
    return load_sequences(settings.processed_dir, settings.models_dir)


def entry(sequences: Sequences, matrix: sp.csr_matrix, before: str, after: str) -> float:
    return float(matrix[sequences.vocabulary.index_of(before), sequences.vocabulary.index_of(after)])


def limit_pairs(monkeypatch: pytest.MonkeyPatch, parts: int, max_parts: int = 100) -> None:
    pairs = USERS * 4 * cooccurrence.WINDOW
    monkeypatch.setattr(cooccurrence, "MAX_PAIRS", pairs // parts)
    monkeypatch.setattr(cooccurrence, "MAX_PARTS", max_parts)


def test_a_log_in_parts_has_the_same_cooccurrence(sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cooccurrence.directed_cooccurrence(sequences)
    limit_pairs(monkeypatch, parts=4)
    in_parts = cooccurrence.directed_cooccurrence(sequences)
    assert entry(sequences, in_parts, "x", "y") == pytest.approx(USERS / 2)
    np.testing.assert_allclose(in_parts.toarray(), whole.toarray(), rtol=1e-5)


def test_a_log_that_is_too_long_is_sampled_by_users(sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_pairs(monkeypatch, parts=4, max_parts=2)
    sampled = cooccurrence.directed_cooccurrence(sequences)
    of_first, of_last = entry(sequences, sampled, "a", "b"), entry(sequences, sampled, "x", "y")
    assert 0.3 * USERS < of_first + of_last < 0.7 * USERS
    assert min(of_first, of_last) > 0.1 * USERS
    assert (sampled != cooccurrence.directed_cooccurrence(sequences)).nnz == 0


def test_rows_with_the_most_entries_lose_their_weakest_ones() -> None:
    matrix = sp.csr_matrix(np.array([[5, 1, 4, 2, 3], [0, 0, 0.1, 0, 0], [7, 0, 6, 0, 8]], dtype=np.float32))
    kept = cooccurrence.strongest_entries(matrix, 6)
    assert kept.toarray().tolist() == [[5, 0, 4, 0, 0], [0, 0, np.float32(0.1), 0, 0], [7, 0, 0, 0, 8]]
    assert cooccurrence.strongest_entries(matrix, 9) is matrix


def test_the_entries_stay_bounded_over_the_parts(sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_pairs(monkeypatch, parts=4)
    monkeypatch.setattr(cooccurrence, "MAX_ENTRIES", 6)
    assert cooccurrence.directed_cooccurrence(sequences).nnz <= 6


def test_ease_samples_users_of_the_whole_log(sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "MAX_PRODUCTS", USERS * 16 // 2)
    monkeypatch.setattr(ease, "USERS_PER_CHUNK", 10)
    weights = ease.ease_weights(sequences)
    first, last = (
        weights[sequences.vocabulary.index_of(one), sequences.vocabulary.index_of(other)]
        for one, other in ((FIRST[0], FIRST[1]), (LAST[0], LAST[1]))
    )
    assert first == pytest.approx(last, rel=0.3)
    assert last > 0.1
    np.testing.assert_array_equal(ease.ease_weights(sequences), weights)
