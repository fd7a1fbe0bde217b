"""What is known of an item at a moment, from a log written by hand: nothing from later."""

from pathlib import Path

import numpy as np
import pytest

from recsys.contracts.activity import DAY
from recsys.model.item_activity import PER_MILLION, UNSEEN, most_active
from training.datasets.sequences import Sequences, load_sequences
from training.datasets.splits import SplitKind
from training.datasets.walk_forward import PastExample, before_the_test, past_examples
from training.models.activity_log import ActivityLog
from training.models.moments import Moments
from training.settings import JobSettings

from .test_splits import write

LOG = {
    "ann": [("a", 0), ("b", 7 * DAY), ("a", 20 * DAY), ("c", 37 * DAY), ("a", 40 * DAY)],
    "bob": [("a", 7 * DAY), ("b", 14 * DAY), ("c", 36 * DAY), ("b", 38 * DAY), ("c", 41 * DAY)],
}
"""By user: items with the second of the event."""


def load(settings: JobSettings) -> Sequences:
    return load_sequences(settings.processed_dir, settings.models_dir, SplitKind.LEAVE_ONE_OUT)


def test_only_earlier_events_count_and_they_fade(tmp_path: Path) -> None:
    sequences = load(write(tmp_path, LOG))
    item = {item_id: index for index, item_id in enumerate(sequences.vocabulary.item_ids, start=1)}
    activity = ActivityLog(sequences).as_of(14 * DAY)
    # Before day 14: "a" 14 and 7 days ago, "b" 7 days ago. With a half-life of 7 days, they weigh 0.25, 0.5 and 0.5.
    of_a, of_b, of_c = (activity[item[name]] for name in "abc")
    month = 0.5 ** (7 / 30)
    share_a = (month**2 + month) / (month**2 + 2 * month)
    np.testing.assert_allclose(of_a[0], np.log1p(PER_MILLION * 0.6), rtol=1e-6)
    np.testing.assert_allclose(of_a[1], np.log1p(PER_MILLION * share_a), rtol=1e-6)
    np.testing.assert_allclose(of_a[2], np.log((0.6 + UNSEEN) / (share_a + UNSEEN)), rtol=1e-5)
    np.testing.assert_allclose([of_a[3], of_b[3]], np.log1p([14, 7]), rtol=1e-6)
    np.testing.assert_allclose(of_b[0], np.log1p(PER_MILLION * 0.4), rtol=1e-6)
    assert of_c[:2].tolist() == [0, 0]
    assert np.isnan(of_c[3])
    assert most_active(activity, 2).tolist() == [item["a"], item["b"]]


def test_a_long_pause_counts_as_a_week(tmp_path: Path) -> None:
    """The last known event is on day 38."""
    sequences = load(write(tmp_path, LOG))
    log = ActivityLog(sequences)
    np.testing.assert_array_equal(log.as_of(1000 * DAY), log.as_of(38 * DAY + 7 * DAY))
    assert (log.as_of(1000 * DAY)[:, :2] == log.as_of(log.end)[:, :2]).all(), "without events, shares stay"
    # Between days 20 and 36 nothing happened, so that "a" of day 0 is 20 + 7 days old on day 36, and "b" 13 + 7.
    index = sequences.vocabulary.index_of
    ages = log.as_of(36 * DAY)[[index("a"), index("b")], 3]
    np.testing.assert_allclose(ages, np.log1p([27, 20]), rtol=1e-6)


def test_many_moments_are_read_in_one_pass(tmp_path: Path) -> None:
    log = ActivityLog(load(write(tmp_path, LOG)))
    moments = [0.0, 7 * DAY, 7 * DAY + 1, 30 * DAY, 50 * DAY]
    for moment, activity in zip(moments, log.at(moments), strict=True):
        np.testing.assert_allclose(activity, log.as_of(moment), rtol=1e-5)


def test_an_example_sees_the_last_moment_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.models.moments.MOST", 2)
    log = ActivityLog(load(write(tmp_path, LOG)))
    history = np.array([1], dtype=np.int32)
    examples = [PastExample(0, history, history, 1, day * DAY) for day in (5, 10, 20, 40)]
    moments = Moments(log, examples)
    assert len(moments.activities) == 2
    for example in examples:
        known = [log.as_of(earlier.as_of) for earlier in examples if earlier.as_of <= example.as_of]
        seen = moments.activities[moments.place_of(example)]
        assert any(np.allclose(seen, activity, equal_nan=True) for activity in known)


def test_the_test_items_are_not_known(tmp_path: Path) -> None:
    log = ActivityLog(load(write(tmp_path, LOG)))
    assert log.end == 38 * DAY + 1  # the last events of both users are their test items


def test_positions_are_no_times(tmp_path: Path) -> None:
    positions = {user: [(item, place) for place, (item, _) in enumerate(events)] for user, events in LOG.items()}
    log = ActivityLog(load(write(tmp_path, positions)))
    assert np.isnan(log.as_of(3)).all()
    assert most_active(log.as_of(3), 2).tolist() == []


def test_a_past_example_knows_what_was_known_then(tmp_path: Path) -> None:
    sequences = load(write(tmp_path, LOG))
    ids = sequences.vocabulary.item_ids
    found = sorted(
        ([ids[index - 1] for index in example.history], ids[example.target - 1], example.as_of)
        for example in past_examples(sequences, seed=1, most=10)
    )
    assert found == [(["a", "b", "a"], "c", 37 * DAY), (["a", "b", "c"], "b", 38 * DAY)]


def test_windows_before_the_test_give_one_example_each(tmp_path: Path) -> None:
    """Sixty events by one user, one a day, so validation has six of them."""
    daily = [("abc"[day % 3], day * DAY) for day in range(60)]
    settings = write(tmp_path, {"ann": daily, "bob": [("a", 5), ("b", 50 * DAY + 1), ("c", 57 * DAY + 1)]})
    sequences = load_sequences(settings.processed_dir, settings.models_dir, SplitKind.TEMPORAL)
    validation, test = sequences.split.cuts or (0, 0)
    examples = past_examples(sequences, seed=1, most=100)
    assert {example.user for example in examples} == {0, 1}
    assert len(examples) > 2
    for example in examples:
        times = sequences.times[sequences.offsets[example.user] : sequences.offsets[example.user + 1]]
        place = len(example.history)
        assert validation <= example.as_of < test
        assert times[place - 1] < example.as_of <= times[place] < test
    known = before_the_test(sequences)
    assert known.train_counts().sum() == (np.asarray(sequences.times) < test).sum() > sequences.train_counts().sum()


def test_second_items_of_windows_follow_all_first_ones(tmp_path: Path) -> None:
    """Two events a day by two users for sixty days, so a window of validation has one day or two."""
    twice = [("abcd"[half % 4], half * DAY // 2) for half in range(120)]
    settings = write(tmp_path, {"ann": twice, "bob": [(item, time + 1) for item, time in twice]})
    sequences = load_sequences(settings.processed_dir, settings.models_dir, SplitKind.TEMPORAL)
    examples = past_examples(sequences, seed=1, most=100)
    of_windows: dict[tuple[int, int], list[int]] = {}
    for example in examples:
        of_windows.setdefault((example.user, example.as_of), []).append(len(example.history))
    assert any(len(lengths) > 1 for lengths in of_windows.values())
    for lengths in of_windows.values():
        assert lengths == list(range(lengths[0], lengths[0] + len(lengths)))
    first = past_examples(sequences, seed=1, most=len(of_windows))
    assert {(example.user, example.as_of) for example in first} == of_windows.keys()
