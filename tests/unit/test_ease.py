from pathlib import Path

import numpy as np
import pytest

from tests.unit.sequence_fixtures import job_settings, write_processed
from training.datasets.sequences import load_sequences
from training.evaluation.baselines import EaseScorer
from training.models.ease import REGULARISATION_PER_USER, ease_weights


def test_weights_are_those_of_the_closed_form(tmp_path: Path) -> None:
    settings = job_settings(tmp_path)
    # Of four items or more the last two are held out: training sees a b, a b c, and c d.
    write_processed(settings, {"ann": ["a", "b", "c", "d"], "bob": ["a", "b", "c", "d", "a"], "eve": ["c", "d"]})
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    order = [index - 1 for index in sequences.vocabulary.indices("abcd")]
    touched = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=float)
    inverse = np.linalg.inv(touched.T @ touched + 3 * REGULARISATION_PER_USER * np.eye(4))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    weights = ease_weights(sequences)
    np.testing.assert_allclose(weights[1:, 1:][np.ix_(order, order)], expected, rtol=1e-4, atol=1e-5)
    assert not weights[0].any()
    assert not weights[:, 0].any()


def test_the_input_fades_with_age() -> None:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    scores = EaseScorer(weights).scores([np.array([1, 2], dtype=np.int32), np.array([3], dtype=np.int32)])
    # 0.9 of item 1's row, which is older, and all of item 2's.
    assert scores[0].tolist() == pytest.approx([0.9 * 5 + 9, 0.9 * 6 + 10, 0.9 * 7 + 11])
    assert scores[1].tolist() == [13, 14, 15]
