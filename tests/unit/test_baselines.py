from pathlib import Path

import numpy as np
import pytest

from tests.unit.sequence_fixtures import job_settings, write_processed
from training.datasets.sequences import load_sequences
from training.evaluation.baselines import CovisitationScorer, PopularityScorer
from training.evaluation.ranking import rank_by_shared_scores, rank_held_out, ranks_of_held_out
from training.models.cooccurrence import directed_cooccurrence, ppmi_vectors


def history(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int32)


def test_cooccurrence_is_directed_and_falls_with_distance(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    # Of five items the last two are held out: training sees a b c, and d e of the user with two.
    write_processed(settings, {"ann": ["a", "b", "c", "d", "e"], "bob": ["d", "e"]})
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    matrix = directed_cooccurrence(sequences).toarray()
    a, b, c, d, e = sequences.vocabulary.indices("abcde")
    expected = np.zeros((6, 6))
    expected[a, b] = expected[b, c] = expected[d, e] = 1.0
    expected[a, c] = 0.5
    np.testing.assert_allclose(matrix, expected)
    scores = CovisitationScorer(directed_cooccurrence(sequences)).scores([history(a, b), history(e)])
    assert scores.shape == (2, 5)
    # Two thirds of what followed a are b, one third c; after b came c only.
    assert scores[0, c - 1] == pytest.approx(1.0 + 0.8 / 3)
    assert scores[0, b - 1] == pytest.approx(0.8 * 2 / 3)
    assert scores[1].tolist() == [0.0] * 5


def test_ppmi_vectors_put_neighbours_side_by_side(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    random = np.random.default_rng(0)
    write_processed(
        settings,
        {f"u{user:02d}": [f"{'x' if user % 2 else 'y'}{item}" for item in random.permutation(8)] for user in range(40)},
        {f"{side}{item}": [] for side in "xyz" for item in range(8)},
    )
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    vectors = ppmi_vectors(directed_cooccurrence(sequences), dim=4, seed=0)
    x, y, z = (sequences.vocabulary.indices([f"{side}{item}" for item in range(8)]) for side in "xyz")
    similarity = vectors @ vectors.T
    assert similarity[np.ix_(x, x)].min() > 10 * abs(similarity[np.ix_(x, y)]).max()
    assert not vectors[z].any()
    assert ppmi_vectors(directed_cooccurrence(sequences), dim=64, seed=0).shape == (25, 64)


def test_ranking_filters_seen_items_where_they_are_not_to_come_again() -> None:
    scorer = PopularityScorer(np.array([0, 50, 40, 30, 20, 10]))
    examples = [(history(1, 2), 4), (history(1, 3, 2), 3), (history(5), 1)]
    ranking = rank_held_out(scorer, examples)
    assert ranking.ranks.tolist() == [2.0, np.inf, 1.0]
    assert rank_held_out(scorer, examples, exclude_seen=False).ranks.tolist() == [4.0, 3.0, 1.0]
    assert ranking.recommended[0, :3].tolist() == [2, 3, 4]
    assert ranking.recommended[2, 0] == 0


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("num_items", [8, 40])
def test_scores_that_all_users_share_are_ranked_as_any_others(num_items: int, exclude_seen: bool) -> None:
    random = np.random.default_rng(num_items)
    scorer = PopularityScorer(np.concatenate([[0], random.integers(0, 5, num_items)]))
    examples = [
        (
            random.integers(1, num_items + 1, random.integers(1, 12)).astype(np.int32),
            int(random.integers(1, num_items + 1)),
        )
        for _ in range(200)
    ]
    expected = rank_held_out(scorer, examples, exclude_seen)
    found = rank_by_shared_scores(scorer.shared, examples, exclude_seen)
    assert found.ranks.tolist() == expected.ranks.tolist()
    assert ranks_of_held_out(scorer, examples, exclude_seen).tolist() == expected.ranks.tolist()
    assert np.isinf(expected.ranks).any() == exclude_seen
    for (history, _), ours, theirs in zip(examples, found.recommended, expected.recommended, strict=True):
        seen = np.isin(ours + 1, history) & exclude_seen
        assert np.all(np.diff(seen.astype(int)) >= 0)  # seen items only fill up the end
        assert scorer.shared[ours[~seen]].tolist() == scorer.shared[theirs[: (~seen).sum()]].tolist()
