"""The recall of the sources of candidates, from ranks written by hand and from a model."""

import numpy as np
import pytest

from recsys.model.candidate_sources import CandidateSources
from recsys.model.two_tower import TwoTower, TwoTowerConfig
from tests.unit.test_candidate_sources import tables
from training.models.exact_retrieval import ExactRetrieval
from training.models.source_ranks import SourceRanks, source_ranks

NEVER = np.inf


def test_recall_is_of_each_source_at_its_number_and_of_all_together() -> None:
    ranks = SourceRanks(
        towers=np.array([1.0, 200.0, 160.0, NEVER]),
        others=np.array([[1.0, 2.0, NEVER, NEVER], [NEVER] * 4, [NEVER, 20.0, NEVER, 21.0], [NEVER] * 4]),
    )
    assert ranks.recall([1, 40, 20, 0]) == {
        "own": 0.25,
        "following": 0.0,
        "trending": 0.25,
        "trending_in_categories": 0.0,
        "towers": 0.25,
        "all": 0.5,
        "towers_alone": 0.75,  # the towers have 139 places
    }
    assert ranks.recall_of_all([0, 0, 40, 0]) == 1.0
    assert ranks.recall_of_all([0, 0, 0, 0]) == 0.75


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_each_source_is_asked_what_a_request_would_ask(exclude_seen: bool) -> None:
    model = TwoTower(TwoTowerConfig(num_items=5, num_content_features=0, embedding_dim=8, num_layers=1))
    towers = ExactRetrieval(model, exclude_seen=exclude_seen)
    sources = CandidateSources(tables(own=5, following=5, trending=5), exclude_seen=exclude_seen)
    histories = [np.array(items, dtype=np.int32) for items in ([1, 2], [1, 2], [5])]
    examples = [(histories[0], 3), (histories[1], 2), (histories[2], 2)]
    ranks = source_ranks(examples, [sources] * 3, towers, max_history=200)
    # After 1, 2 comes 3, and 2 is seen. Trending are 2, 4, 5, 3, 1.
    assert ranks.others.tolist() == (
        [[NEVER, NEVER, NEVER], [1, NEVER, NEVER], [3, NEVER, 1], [NEVER] * 3]
        if exclude_seen
        else [[NEVER, 1, NEVER], [1, 2, NEVER], [4, 1, 1], [NEVER] * 3]
    )
    assert np.isinf(ranks.towers).tolist() == [False, exclude_seen, False]
    assert ranks.recall([5, 5, 5, 0])["all"] == (2 / 3 if exclude_seen else 1.0)
