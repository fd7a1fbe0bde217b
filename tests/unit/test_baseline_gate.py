"""Promotion beside the best baseline: a release that is below it, and not by chance, needs FORCE=1."""

import pytest

from recsys.errors import JobError
from training.promotion.baseline_gate import pass_baseline


def metrics(lift: float, low: float, high: float) -> dict[str, float]:
    return {
        "ndcg_at_10": 0.1 + lift,
        "best_baseline_ndcg_at_10": 0.1,
        "lift_over_best_baseline": lift,
        "lift_over_best_baseline_low": low,
        "lift_over_best_baseline_high": high,
    }


BELOW = metrics(-0.02, -0.03, -0.01)


def test_a_release_below_the_best_baseline_is_refused_with_both_values() -> None:
    with pytest.raises(JobError) as refused:
        pass_baseline(2, BELOW, force=False, first=False)
    assert str(refused.value).startswith("version 2 is below the best baseline, which the report of `make evaluate`")
    assert "NDCG@10 0.0800 on the test items, and the best baseline 0.1000: -0.0200" in str(refused.value)
    assert "(95% interval -0.0300 to -0.0100)" in str(refused.value)
    assert "FORCE=1 promotes it anyway" in str(refused.value)


@pytest.mark.parametrize(("force", "first", "reason"), [(True, False, "FORCE is set"), (False, True, "no champion")])
def test_with_force_or_without_a_champion_it_passes_with_a_warning(force: bool, first: bool, reason: str) -> None:
    line = pass_baseline(2, BELOW, force=force, first=first)
    assert line.startswith("warning: version 2 is below the best baseline, but ")
    assert reason in line


@pytest.mark.parametrize("found", [metrics(0.02, 0.01, 0.03), metrics(-0.02, -0.05, 0.01)], ids=["above", "by chance"])
def test_a_release_above_it_or_below_by_chance_passes(found: dict[str, float]) -> None:
    line = pass_baseline(2, found, force=False, first=False)
    assert line.startswith("version 2 has NDCG@10")
    assert "the best baseline 0.1000" in line


def test_a_release_without_a_best_baseline_is_not_compared() -> None:
    assert "not compared" in pass_baseline(2, {"ndcg_at_10": 0.1}, force=False, first=False)
