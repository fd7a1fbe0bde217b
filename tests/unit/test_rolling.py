"""The rolling split: consecutive cuts checked by hand, their summary, and all jobs over small logs."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.unit.sequence_fixtures import cyclic_sequences, job_settings, train_model, write_log
from training.datasets.sequences import Sequences, load_sequences
from training.datasets.splits import rolling_shares
from training.evaluation.gains import Gains
from training.evaluation.rolling import BEST, MODEL, Cut, clustered_interval, summarise
from training.evaluation.slices import new_items_of, repeats_of
from training.job import for_each_cut
from training.jobs.evaluate import evaluate_split
from training.model_directory import latest_model
from training.models.recipe import Recipe
from training.settings import JobSettings

SMALL = Recipe(embedding_dim=16, max_history=20, steps_per_round=5, max_epochs=1, warmup_steps=5)


def load(settings: JobSettings) -> Sequences:
    return load_sequences(settings.processed_dir, settings.models_dir, settings.split, settings.shares)


# --- the cuts ---------------------------------------------------------------------------------------------------------


def test_each_cut_tests_on_the_window_that_the_next_one_validates_on() -> None:
    assert [rolling_shares(cut, 4) for cut in range(1, 5)] == [
        (0.75, 0.80, 0.85),
        (0.80, 0.85, 0.90),
        (0.85, 0.90, 0.95),
        (0.90, 0.95, 1.00),
    ]


def test_two_cuts_divide_a_hand_made_log(tmp_path: Path) -> None:
    """41 interactions at the times 100 to 140, so that a window of 5% is two of them."""
    whose = ["ann", "bob", "cy"] * 11 + ["ann", "bob"] + ["ann", "cy", "bob", "ann", "cy", "di"]
    items = [f"i{number % 7}" for number in range(len(whose))]
    log: dict[str, list[tuple[str, int]]] = {}
    for time, (user, item) in enumerate(zip(whose, items, strict=True), start=100):
        log.setdefault(user, []).append((item, time))
    settings = job_settings(tmp_path, split="rolling", cuts=2)
    write_log(settings, log)
    first, second = (load(of_cut) for of_cut in settings.of_each_cut())
    assert (first.split.cuts, first.split.end) == ((134, 136), 138)
    assert (second.split.cuts, second.split.end) == ((136, 138), None)

    def tested(sequences: Sequences) -> dict[int, int]:
        starts = sequences.offsets
        return {
            int(user): int(sequences.times[starts[user] + sequences.split.test_places[user]])
            for user in sequences.tested_users
        }

    # Ann and Bob have the times 135, 138 and 134, 137; Cy 136 and 139; Di, whose first is 140, is not tested.
    assert tested(first) == {1: 137, 2: 136}
    assert tested(second) == {0: 138, 2: 139}
    assert first.train_lengths.sum() == 34
    assert second.train_lengths.sum() == 36
    assert second.validated_users.tolist() == first.tested_users.tolist()


def test_every_cut_has_folders_of_its_own(tmp_path: Path) -> None:
    cuts = job_settings(tmp_path, split="rolling").of_each_cut()
    assert [of_cut.split_name for of_cut in cuts] == [f"rolling-{cut}-of-4" for cut in range(1, 5)]
    assert len({of_cut.models_dir for of_cut in cuts} | {of_cut.reports_dir for of_cut in cuts}) == 8
    only = job_settings(tmp_path, split="rolling", cut=3)
    assert [of_cut.models_dir for of_cut in only.of_each_cut()] == [cuts[2].models_dir]
    temporal = job_settings(tmp_path, split="temporal")
    assert temporal.of_each_cut() == [temporal]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"split": "temporal", "cut": 1}, "only SPLIT=rolling has several"),
        ({"split": "rolling", "cut": 5}, "are 4 cuts"),
    ],
)
def test_a_cut_that_does_not_exist_is_refused(tmp_path: Path, given: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        job_settings(tmp_path, **given)


def test_a_job_runs_once_for_each_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = for_each_cut(lambda settings: f"did {settings.split_name}")(job_settings(tmp_path, split="rolling", cuts=2))
    assert line == "cut 2 of 2: did rolling-2-of-2"
    assert capsys.readouterr().out == "cut 1 of 2: did rolling-1-of-2\n"
    assert for_each_cut(lambda settings: settings.split_name)(job_settings(tmp_path)) == "leave_one_out"


# --- slices -----------------------------------------------------------------------------------------------------------


def test_new_items_and_repeats_are_told_apart() -> None:
    examples = [(np.array([1, 2, 1], np.int32), target) for target in (1, 3, 4)]
    repeats = {name: part.users.tolist() for name, part in repeats_of(examples).items()}
    assert repeats == {"new_to_user": [False, True, True], "again": [True, False, False]}
    new = new_items_of(examples, np.array([1, 2, 1, 3], np.int32))
    assert new["new_items"].users.tolist() == [False, False, True]


# --- the summary ------------------------------------------------------------------------------------------------------


def cut_of(time: int, best: str, users: list[int], slices: dict[str, object], **gains: list[float]) -> Cut:
    values = {name: np.array(of_model) for name, of_model in gains.items()}
    models = {name: {"ndcg_at_10": of_model.mean(), "hr_at_10": 0.5} for name, of_model in values.items()}
    metrics = {"cuts": (0, time), "served": "two_tower", "best_baseline": best, "models": models, "slices": slices}
    return Cut(metrics, Gains(np.array(users), values))


def in_slice(num_users: int, **ndcg: float) -> dict[str, object]:
    models = {name: {"ndcg_at_10": value, "hr_at_10": 0.5} for name, value in ndcg.items()}
    return {"part": {"title": "a part", "num_users": num_users, "models": models}}


def test_mean_spread_and_lift_over_the_best_baseline_of_each_cut() -> None:
    first = cut_of(
        10, "popularity", [1, 2], in_slice(1, two_tower=0.9, popularity=0.3, ease=0.1),
        two_tower=[0.4, 0.6], popularity=[0.3, 0.3], ease=[0.0, 0.0],
    )  # fmt: skip
    second = cut_of(
        20, "ease", [2, 3], in_slice(3, two_tower=0.1, popularity=0.1, ease=0.3),
        two_tower=[0.2, 0.4], popularity=[0.1, 0.1], ease=[0.2, 0.2],
    )  # fmt: skip
    found = summarise([first, second], seed=1)
    assert found["best_baselines"] == ["popularity", "ease"]
    assert found["models"][MODEL]["ndcg_at_10"] == pytest.approx([0.5, 0.3])
    assert found["models"][MODEL]["mean"] == pytest.approx(0.4)
    assert found["models"][MODEL]["spread"] == pytest.approx(np.sqrt(0.02))
    assert found["models"][BEST]["mean"] == pytest.approx(0.25)
    lift = found["lifts"][BEST]
    assert lift["by_cut"] == pytest.approx([0.2, 0.1])
    assert lift["mean"] == pytest.approx(0.15)
    assert lift["low"] <= 0.15 <= lift["high"]
    assert [of_cut["mean"] for of_cut in found["lift_of_each_cut"]] == pytest.approx([0.2, 0.1])
    assert found["lifts"]["popularity"]["by_cut"] == pytest.approx([0.2, 0.2])
    assert found["slices"]["part"]["num_users"] == 4
    assert found["slices"]["part"]["models"][MODEL] == pytest.approx((0.9 + 3 * 0.1) / 4)
    assert found["slices"]["part"]["models"][BEST] == pytest.approx((0.3 + 3 * 0.3) / 4)


def test_a_model_that_a_cut_lacks_is_not_averaged() -> None:
    both = cut_of(10, "ease", [1], {}, two_tower=[0.1], two_stage=[0.2], ease=[0.1])
    one = cut_of(20, "ease", [1], {}, two_tower=[0.1], ease=[0.1])
    assert set(summarise([both, one], seed=1)["models"]) == {MODEL, BEST, "two_tower", "ease"}


def test_users_are_resampled_with_all_of_their_cuts() -> None:
    """The same users with the same values at four cuts say no more than at one."""
    random = np.random.default_rng(0)
    users, values = np.arange(200), random.normal(0.1, 1.0, 200)
    one = clustered_interval([users], [values], seed=1)
    assert clustered_interval([users] * 4, [values] * 4, seed=1) == pytest.approx(one)
    others = [users + 1000 * cut for cut in range(4)]
    low, high = clustered_interval(others, [values] * 4, seed=1)
    assert high - low < 0.65 * (one[1] - one[0])


# --- the jobs ---------------------------------------------------------------------------------------------------------


def test_all_cuts_are_trained_evaluated_and_summarised_and_finished_ones_are_kept(tmp_path: Path) -> None:
    settings = job_settings(tmp_path, split="rolling", cuts=2, train_minutes=1.0, exclude_seen=False)
    circles = cyclic_sequences(num_users=60, num_items=20, length=40)
    write_log(
        settings,
        {
            user: [(item, 1_700_000_000 + 60 * number + 3600 * step) for step, item in enumerate(items)]
            for number, (user, items) in enumerate(circles.items())
        },
    )
    train_all = for_each_cut(lambda of_cut: train_model(of_cut, SMALL))
    train_model(settings.of_each_cut()[0], SMALL)
    trained = latest_model(settings.of_each_cut()[0].models_dir)
    before = (trained / "training.json").stat().st_mtime_ns
    train_all(settings)
    assert (trained / "training.json").stat().st_mtime_ns == before

    line = evaluate_split(settings)
    assert "over 2 cuts, the best baselines" in line
    summary = json.loads((settings.reports_dir / "summary" / "rolling.json").read_text())
    assert summary["users"] == [60, 60]
    assert {"own_counts", "last_basket", "popularity_7_days", "covisitation", MODEL, BEST} <= set(summary["models"])
    # Nobody meets an item for the first time so late, as a round takes 20 steps.
    assert summary["slices"]["again"]["num_users"] == 120
    assert summary["slices"]["new_to_user"]["num_users"] == 0
    page = (settings.reports_dir / "summary" / "report.md").read_text()
    assert "| the best baseline of each cut |" in page
    assert (settings.reports_dir / "summary" / "rolling.png").stat().st_size > 1000
