"""The traffic split: shares, stickiness, and the test that detects a broken split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiment import CHALLENGER, CHAMPION, Experiment, sample_ratio_p_value

USERS = [f"user-{number}" for number in range(20_000)]


def test_without_an_experiment_all_users_get_the_champion() -> None:
    experiment = Experiment.parse("champion:100")
    assert not experiment.runs
    assert {experiment.variant_of(user) for user in USERS} == {CHAMPION}


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_the_split_has_the_configured_shares(percent: int) -> None:
    experiment = Experiment.parse(f"champion:{100 - percent},challenger:{percent}")
    share = sum(experiment.variant_of(user) == CHALLENGER for user in USERS) / len(USERS)
    assert share == pytest.approx(percent / 100, abs=0.015)


def test_a_larger_share_only_adds_users_to_the_challenger() -> None:
    few, many = Experiment(10), Experiment(30)
    assert {u for u in USERS if few.variant_of(u) == CHALLENGER} < {
        u for u in USERS if many.variant_of(u) == CHALLENGER
    }


@given(st.text(min_size=1), st.floats(0, 100))
def test_a_user_always_gets_the_same_variant(user_id: str, percent: float) -> None:
    assert Experiment(percent).variant_of(user_id) == Experiment(percent).variant_of(user_id)


BROKEN_SPLITS = ["", "champion", "champion:x", "champion:90", "champion:90,challenger:20", "champion:50,other:50"]


@pytest.mark.parametrize("text", [*BROKEN_SPLITS, "champion:110,challenger:-10"])
def test_an_invalid_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percent"):
        Experiment.parse(text)


def test_the_sample_ratio_is_the_chi_squared_test() -> None:
    # By hand: 5,200 and 4,800 against halves of 10,000 gives 2 * 200**2 / 5000 = 16, and P(chi2_1 > 16) = 6.334e-5.
    assert sample_ratio_p_value([5200, 4800], [0.5, 0.5]) == pytest.approx(6.334e-5, rel=1e-3)
    # 3.841 is the 5 % point: 1,000 users, 500 +- 31 -> 2 * 31**2 / 500 = 3.844.
    assert sample_ratio_p_value([531, 469], [0.5, 0.5]) == pytest.approx(0.05, abs=1e-3)


def test_an_even_split_and_no_users_are_no_mismatch() -> None:
    assert sample_ratio_p_value([900, 100], [0.9, 0.1]) == 1.0
    assert sample_ratio_p_value([0, 0], [0.9, 0.1]) == 1.0
    assert sample_ratio_p_value([10, 0], [1.0, 0.0]) == 1.0
    assert sample_ratio_p_value([10, 1], [1.0, 0.0]) == 0.0
