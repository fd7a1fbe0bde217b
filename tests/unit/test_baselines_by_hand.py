"""Every baseline of the evaluation on a log whose right answers are computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.sequence_fixtures import job_settings, write_log, write_processed
from training.datasets.sequences import Sequences, load_sequences
from training.evaluation.baseline_set import OWN, TIMED, BaselineSet
from training.evaluation.baselines import (
    OwnCountsScorer,
    OwnCountsThenPopularityScorer,
    OwnLatestScorer,
)
from training.evaluation.ranking import rank_held_out
from training.evaluation.recent_popularity import DAY, counts_of_days, decayed_counts
from training.evaluation.windows import window_of_newcomers, window_of_test, window_of_validation

START = 1_700_000_000


def at(day: float) -> int:
    return START + int(day * DAY)


# 20 interactions. Before validation, from day 100: "old" was popular long ago, "new" for a few days.
LOG = {
    "ann": [
        ("milk", at(0)),
        ("old", at(1)),
        ("milk", at(95)),
        ("bread", at(95)),
        ("milk", at(100)),
        ("bread", at(110)),
    ],
    "bob": [("old", at(2)), ("egg", at(3)), ("old", at(4)), ("new", at(96)), ("old", at(101)), ("new", at(112))],
    "cy": [("old", at(0.5)), ("bread", at(70)), ("new", at(97)), ("egg", at(98))],
    "di": [("egg", at(5)), ("bread", at(71)), ("new", at(98.5)), ("milk", at(99))],
}


def history(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int32)


def load(tmp_path: Path, log: dict[str, list[tuple[str, int]]], **values: object) -> Sequences:
    settings = job_settings(tmp_path, **values)
    write_log(settings, log)
    return load_sequences(settings.processed_dir, settings.models_dir, settings.split)


@pytest.fixture
def sequences(tmp_path: Path) -> Sequences:
    found = load(tmp_path, LOG, split="temporal")
    assert found.split.cuts == (at(100), at(110))
    return found


def by_name(sequences: Sequences, counts: np.ndarray) -> dict[str, float]:
    return {item_id: float(counts[sequences.vocabulary.index_of(item_id)]) for item_id in sequences.vocabulary.item_ids}


# --- popularity with a clock ------------------------------------------------------------------------------------------


def test_popularity_counts_what_happened_in_the_days_before_the_window(sequences: Sequences) -> None:
    window = window_of_validation(sequences, seed=1)
    of_week, of_month = (by_name(sequences, counts_of_days(window, sequences.num_items, days)) for days in (7, 30))
    assert of_week == {"milk": 2, "bread": 1, "new": 3, "egg": 1, "old": 0}
    assert of_month == {"milk": 2, "bread": 3, "new": 3, "egg": 1, "old": 0}
    # At the test, the events of the validation window are known, as a live count would know them.
    assert by_name(sequences, counts_of_days(window_of_test(sequences, seed=1), sequences.num_items, 10)) == {
        "milk": 1, "bread": 0, "new": 0, "egg": 0, "old": 1,
    }  # fmt: skip


def test_an_event_counts_half_as_much_after_every_half_life(tmp_path: Path) -> None:
    log = {
        "ann": [("a", at(0)), ("b", at(10)), ("a", at(20)), ("c", at(30)), ("b", at(40))],
        "bob": [("a", at(1)), ("c", at(11)), ("a", at(21)), ("c", at(31)), ("b", at(41))],
    }
    sequences = load(tmp_path, log, split="temporal")
    assert sequences.split.cuts == (at(40), at(41))
    window = window_of_validation(sequences, seed=1)
    found = by_name(sequences, decayed_counts(window, sequences.num_items, 10))
    assert found["a"] == pytest.approx(2**-4 + 2**-2 + 2**-3.9 + 2**-1.9)
    assert found["b"] == pytest.approx(2**-3)
    assert found["c"] == pytest.approx(2**-1 + 2**-2.9 + 2**-0.9)


# --- the user's own items ---------------------------------------------------------------------------------------------


def test_own_counts_and_own_latest_items() -> None:
    counts = OwnCountsScorer(5).scores([history(2, 3, 2, 5), history(1)])
    assert counts.tolist() == [[0, 2, 1, 0, 1], [1, 0, 0, 0, 0]]
    latest = OwnLatestScorer(5).scores([history(2, 3, 2, 5), history(1)])
    assert latest.tolist() == [[0, 3, 2, 0, 4], [1, 0, 0, 0, 0]]


def test_own_counts_come_before_popularity_which_decides_between_equals() -> None:
    popularity = np.array([0, 50, 1, 7, 50, 9])
    scorer = OwnCountsThenPopularityScorer(popularity)
    examples = [(history(2, 3, 2, 5), target) for target in range(1, 6)]
    # Twice 2; 5 and 3 once each, of which 5 is more popular; then 1 and 4, which are equally popular.
    assert rank_held_out(scorer, examples, exclude_seen=False).ranks.tolist() == [4.5, 1.0, 3.0, 4.5, 2.0]


def test_large_counts_are_told_apart() -> None:
    popularity = np.arange(1_000_001)
    scores = OwnCountsThenPopularityScorer(popularity).scores([history(*[7] * 3_000, *[8] * 2_999, 9, 10)])[0]
    assert np.argsort(-scores)[:5].tolist() == [6, 7, 9, 8, 999_999]


# --- the last basket --------------------------------------------------------------------------------------------------


def test_the_last_basket_is_what_was_taken_at_the_latest_time(sequences: Sequences) -> None:
    window = window_of_validation(sequences, seed=1)
    baskets = [[sequences.vocabulary.item_id(int(index)) for index in basket] for basket in window.baskets]
    assert baskets == [["milk", "bread"], ["new"]]


def test_what_followed_the_items_of_the_last_basket_is_ranked_first(tmp_path: Path) -> None:
    """In training, q follows p, and s follows r; r was taken long before the last basket, which is p alone."""
    pairs = {f"u{number}": [("p", at(1)), ("q", at(2)), ("x", at(3)), ("x2", at(4))] for number in range(3)}
    pairs |= {f"v{number}": [("r", at(1)), ("s", at(2)), ("x", at(3)), ("x2", at(4))] for number in range(3)}
    log = pairs | {"ann": [("r", at(0)), ("p", at(1)), ("q", at(2)), ("s", at(3))]}
    sequences = load(tmp_path, log, exclude_seen=False)
    baselines = BaselineSet(sequences, exclude_seen=False)
    validation = window_of_validation(sequences, seed=1)
    ranks = baselines.rank(validation, baselines.choose(validation))["last_basket"].ranks
    assert ranks[0] == 1.0  # ann, whose next item is q


# --- which baselines there are, and the best of them ------------------------------------------------------------------


def test_the_best_is_chosen_on_validation_and_measured_on_test(tmp_path: Path) -> None:
    """Everybody takes their favourite again in validation, and in the test what is popular this week."""
    log = {
        f"u{number:02d}": [
            (f"own{number}", at(number / 100)), ("x", at(1)), (f"own{number}", at(2)), ("y", at(3)),
            (f"own{number}", at(4)), ("x", at(5)), ("y", at(6)), ("z", at(7)),
            (f"own{number}", at(50)), ("hit", at(90)),
        ]
        for number in range(20)
    }  # fmt: skip
    sequences = load(tmp_path, log, split="temporal", exclude_seen=False)
    assert sequences.split.cuts == (at(50), at(90))
    baselines = BaselineSet(sequences, exclude_seen=False)
    chosen = baselines.choose(window_of_validation(sequences, seed=1))
    assert chosen.ndcg_at_10["own_counts"] == 1.0
    assert chosen.best in ("own_counts", "own_counts_popularity")
    found = baselines.rank(window_of_test(sequences, seed=1), chosen)
    assert set(found) == set(chosen.ndcg_at_10)
    assert found[chosen.best].ranks.min() > 1
    assert baselines.rank(window_of_newcomers(sequences, seed=1), chosen)["popularity"].ranks.tolist() == []


def test_data_whose_timestamps_are_positions_has_no_baseline_with_a_clock(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, exclude_seen=False)
    write_processed(settings, {user: list("abcab") for user in ("ann", "bob")})
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    assert not sequences.has_times
    baselines = BaselineSet(sequences, exclude_seen=False)
    chosen = baselines.choose(window_of_validation(sequences, seed=1))
    assert chosen.half_life_days is None
    assert set(chosen.ndcg_at_10) == {"popularity", "covisitation", "ease", "own_counts", "own_latest"}
    assert set(baselines.skipped) == set(TIMED)


def test_own_items_are_no_baseline_where_they_are_not_recommended_again(sequences: Sequences) -> None:
    baselines = BaselineSet(sequences, exclude_seen=True)
    chosen = baselines.choose(window_of_validation(sequences, seed=1))
    assert set(baselines.skipped) == set(OWN)
    assert set(chosen.ndcg_at_10) == {
        "popularity", "popularity_7_days", "popularity_30_days", "popularity_decayed", "covisitation", "last_basket",
        "ease",
    }  # fmt: skip
