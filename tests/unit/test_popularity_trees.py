"""The second stage that ranks by recent popularity, where there is too little to learn more from."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recsys.model.files import SECOND_STAGE_FILE
from recsys.model.item_activity import ACTIVITY_NAMES, unknown_activity
from recsys.model.lightgbm_alone import lgb
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.ranking_tables import RankingTables
from recsys.model.sources import Source
from tests.unit.sequence_fixtures import job_settings, train_model, write_log
from training.datasets.walk_forward import PastExample
from training.model_directory import latest_model, read_training
from training.models.moments import Moments
from training.models.popularity_trees import FEATURES, FirstItemGains, first_of_each_user, popularity_trees
from training.models.recipe import Recipe

DAY = 86_400
UNTRAINED = Recipe(embedding_dim=32, max_history=20, steps_per_round=20, max_epochs=1, learning_rate=1e-9)


def moments_of(*activities: np.ndarray) -> Moments:
    moments: Moments = SimpleNamespace(activities=list(activities))  # type: ignore[assignment]
    return moments


@pytest.mark.parametrize("feature", FEATURES)
def test_the_trees_rank_by_the_feature_alone(feature: str) -> None:
    random = np.random.default_rng(0)
    activity = random.gamma(1.0, 2.0, (2_001, len(ACTIVITY_NAMES))).astype(np.float32)
    trees = popularity_trees(feature, moments_of(activity[:1_001], activity[1_000:]))
    matrix = random.normal(size=(200, len(FEATURE_NAMES))).astype(np.float32)
    matrix[:, FEATURE_NAMES.index(feature)] = shares = random.permutation(activity[1:, ACTIVITY_NAMES.index(feature)])[
        :200
    ]
    scores = np.asarray(trees.predict(matrix))
    assert trees.feature_name() == FEATURE_NAMES
    np.testing.assert_allclose(scores, shares, atol=0.02)
    assert np.argsort(scores)[-10:].tolist() == np.argsort(shares)[-10:].tolist()


def test_users_are_judged_by_their_first_item() -> None:
    def example(user: int, steps: int) -> PastExample:
        history = np.ones(steps, dtype=np.int32)
        return PastExample(user, history, history, 1, 0)

    examples = [example(7, 3), example(1, 5), example(7, 2), example(7, 4), example(1, 6)]
    assert first_of_each_user(examples).tolist() == [1, 2]


def test_a_better_mean_is_enough() -> None:
    gains = FirstItemGains(
        np.array([0, 2]), np.array([0.1, 0.1]), {"a": np.array([0.0, 0.4]), "b": np.array([0.1, 0.0])}
    )
    assert gains.best_feature == "a"
    assert gains.popularity_is_better_than(None)
    assert gains.popularity_is_better_than(np.array([0.1, 0.9, 0.2]))
    assert not gains.popularity_is_better_than(np.array([0.3, 0.0, 0.2]))


def test_without_times_nothing_is_popular_lately() -> None:
    gains = FirstItemGains(np.array([0]), np.array([0.0]), {})
    assert np.isnan(unknown_activity(1)[1, 0])
    assert gains.best_feature is None
    assert not gains.popularity_is_better_than(None)


def test_a_small_log_gets_a_second_stage_that_ranks_by_popularity(tmp_path: Path) -> None:
    """Twenty users took what was in fashion, and a hundred days later all of them take the same new items."""
    random = np.random.default_rng(1)
    log = {}
    for user in range(20):
        old = [(f"old-{number}", user * DAY + at) for at, number in enumerate(random.permutation(12)[:9])]
        new = [(f"new-{number}", (100 + user) * DAY + at) for at, number in enumerate(random.permutation(4)[:3])]
        log[f"user-{user}"] = [*old, *new]
    settings = job_settings(tmp_path, train_minutes=1.0)
    write_log(settings, log)
    assert "ranks by recent popularity" in train_model(settings, UNTRAINED)
    directory = latest_model(settings.models_dir)
    assert read_training(directory)["second_stage"]["shipped"]
    tables = RankingTables.load(directory)
    assert tables.sources[list(Source).index(Source.TRENDING)] > 0
    trees = lgb.Booster(model_str=(directory / SECOND_STAGE_FILE).read_text())
    used = {name for name, times in zip(trees.feature_name(), trees.feature_importance(), strict=True) if times}
    assert len(used) == 1
    assert used < set(FEATURES)
