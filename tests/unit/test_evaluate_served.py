"""The replay of test users, against the ASGI-less parts of it; the whole way is tested with the running stack."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recsys.contracts.base import MAX_EXCLUDED, MAX_HISTORY
from recsys.contracts.recommendation import RecommendationRequest
from recsys.errors import UpstreamUnavailable
from tests import toy
from training.evaluation.served import Replay, _compare, compare_served, request_for
from training.models.source_counts import LEAST_RETRIEVED


def test_the_services_see_just_the_history() -> None:
    history = [f"i{number}" for number in range(MAX_HISTORY + 3)]
    body = request_for([*history[:1], *history], "nobody", exclude_seen=True)
    assert body["session_items"] == history[3:]
    assert body["exclude_items"] == ["i0", "i1", "i2"]
    assert body["top_k"] == 50 <= LEAST_RETRIEVED
    assert RecommendationRequest.model_validate(body).user_id == "nobody"
    assert request_for(history, "nobody", exclude_seen=False)["exclude_items"] == []


def test_the_longest_history_is_still_a_request() -> None:
    body = request_for([f"i{number}" for number in range(2 * MAX_EXCLUDED)], "nobody", exclude_seen=True)
    assert len(RecommendationRequest.model_validate(body).exclude_items) == MAX_EXCLUDED


def test_services_that_are_away_are_named(tmp_path: Path) -> None:
    settings = toy.job_settings(tmp_path)
    toy.write_prepared(settings)
    directory = toy.write_model(settings, "first", seed=1)
    with pytest.raises(UpstreamUnavailable, match=r"127\.0\.0\.1:9"):
        compare_served(settings, directory, "http://127.0.0.1:9", most_users=5)


def test_what_is_lost_on_the_way_shows() -> None:
    replay = Replay(np.array([1.0, np.inf]), Counter({"personalized": 2}), {3}, {"beef"}, np.array([4.0, 6.0]))
    compared = _compare(replay, np.array([1.0, 3.0]), seed=1)
    assert compared["release"] == 3
    assert compared["served"]["ndcg_at_10"] == 0.5
    assert compared["offline"]["ndcg_at_10"] == 0.75
    assert compared["relative_difference"] == pytest.approx(-1 / 3)
    assert compared["latency_ms"]["p50"] == 5.0
