"""Promotion beside the best baseline: a release that is below it, and not by chance, needs FORCE=1."""

import json
from pathlib import Path

import pytest

from recsys.errors import JobError
from recsys.model.files import METRICS_FILE
from tests import toy
from training.jobs import promote
from training.promotion.baseline_gate import pass_baseline
from training.promotion.gate import GateRecord
from training.release_manifest import describe_release
from training.settings import ReleaseSettings


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


# --- in the job -------------------------------------------------------------------------------------------------------


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """The files of a release that is below the best baseline."""
    directory = toy.write_model(toy.job_settings(tmp_path), "below", seed=1)
    (directory / METRICS_FILE).write_text(json.dumps(BELOW))
    describe_release(directory)
    return directory


def gate_of(directory: Path, champion: int | None, *, force: bool) -> GateRecord:
    wanted = ReleaseSettings.model_validate({"force": force})
    return promote._pass_gate(None, 2, champion, directory, toy.job_settings(directory), wanted)


def test_promote_refuses_it_before_it_compares_it_with_the_champion(below: Path) -> None:
    with pytest.raises(JobError, match="version 2 is below the best baseline"):
        gate_of(below, 1, force=False)


@pytest.mark.parametrize(("champion", "force"), [(1, True), (None, False)])
def test_promote_says_so_if_it_is_promoted_anyway(
    below: Path, champion: int | None, force: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate_of(below, champion, force=force) == GateRecord(best=2)
    assert "promote: warning: version 2 is below the best baseline" in capsys.readouterr().out
