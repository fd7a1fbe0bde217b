"""What `make soak` decides and writes."""

import re
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray
from pydantic import ValidationError

from bench.settings import SoakSettings
from bench.soak.flatness import Verdict, trend
from bench.soak.promotions import write_variant
from bench.soak.report import Outcome
from bench.soak.samples import Quantity, Samples
from bench.soak.traffic import FILLED_EVENTS, TRIMMED_EVENTS, Counts, Traffic
from bench.tables import write_between_markers
from recsys.adapters.redis_feature_store import MAX_EVENT_IDS, MAX_RECENT
from recsys.contracts.base import MAX_HISTORY
from recsys.model.release_manifest import weights_of
from tests import toy
from training.model_directory import final_fit_of, latest_model, read_training

MIB = 2.0**20
TOLERATED = Quantity.MEMORY.value.tolerated
PROMOTIONS, SAMPLES = 15, 200


def measured(leak_per_promotion: float, noise: float, seed: int) -> NDArray[np.float64]:
    """Bytes over 15 promotions. Each one takes memory for a fifth of the time until the next one."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) * PROMOTIONS / SAMPLES
    loading = 40 * MIB * (time % 1 < 0.2)
    return 650 * MIB + leak_per_promotion * np.floor(time) + loading + rng.normal(0, noise, SAMPLES)


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_peaks_during_promotions_are_flat(seed: int) -> None:
    assert trend(measured(0, 3 * MIB, seed).tolist()).verdict(TOLERATED) == Verdict.FLAT


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_two_mebibytes_per_promotion_is_growth(seed: int) -> None:
    found = trend(measured(2 * MIB, 3 * MIB, seed).tolist())
    assert found.verdict(TOLERATED) == Verdict.GROWS
    assert found.growth == pytest.approx(28 * MIB, rel=0.25)


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_a_mebibyte_per_promotion_is_never_flat(seed: int) -> None:
    assert trend(measured(MIB, 3 * MIB, seed).tolist()).verdict(TOLERATED) != Verdict.FLAT


def test_more_noise_than_is_tolerated_is_not_called_flat() -> None:
    assert trend(measured(0, 60 * MIB, seed=1).tolist()).verdict(TOLERATED) == Verdict.UNCLEAR


def test_memory_that_is_given_back_is_flat() -> None:
    assert trend(measured(-MIB, MIB, seed=1).tolist()).verdict(TOLERATED) == Verdict.FLAT


def test_one_outlier_changes_nothing() -> None:
    sizes = [100 * MIB] * 50
    sizes[-1] = 500 * MIB
    found = trend(sizes)
    assert (found.verdict(TOLERATED), found.growth, found.peak) == (Verdict.FLAT, 0, 500 * MIB)


def test_a_trend_needs_measurements() -> None:
    with pytest.raises(ValueError, match="at least 3 measurements; got 2"):
        trend([1.0, 2.0])


# --- the result -------------------------------------------------------------------------------------------------------


def outcome(memory: list[float]) -> Outcome:
    samples = Samples(seconds=[float(second) for second in range(len(memory))], warm_after=0.0)
    samples.values[Quantity.MEMORY, "ranker_service, worker 1"] = memory
    return Outcome(SoakSettings(), samples, Counts(), [1.0], {"recent": 2}, 60.0)


def test_a_flat_process_has_no_problem() -> None:
    result = outcome([100 * MIB] * 30)
    assert result.problems() == []
    assert result.table().endswith(
        "| ranker_service, worker 1 | 100.0 | 100.0 | +0.0 (+0.0 to +0.0) | 100.0 |  |  | flat |"
    )


def test_a_growing_process_is_named_with_its_growth() -> None:
    [problem] = outcome([100 * MIB + number * MIB for number in range(30)]).problems()
    assert re.match(r"ranker_service, worker 1: MiB of memory kept growing after the warm-up, by \+2\d\.\d", problem)


def test_a_process_that_leaks_files_is_not_flat() -> None:
    result = outcome([100 * MIB] * 30)
    result.samples.values[Quantity.FILES, "ranker_service, worker 1"] = [10.0 + number for number in range(30)]
    assert result.table().endswith("| 14 to 34 |  | grows |")
    assert [problem.partition(" kept")[0] for problem in result.problems()] == ["ranker_service, worker 1: open files"]


def test_growth_in_the_warm_up_is_tolerated() -> None:
    result = outcome([number * 50 * MIB for number in range(10)] + [500 * MIB] * 20)
    result.samples.warm_after = 10.0
    assert result.problems() == []


def test_many_unexpected_responses_are_a_problem() -> None:
    result = outcome([100 * MIB] * 30)
    result.counts.statuses.update({200: 990, 503: 10})
    result.counts.unexpected.update({"event: 503": 10})
    assert result.problems() == ["unexpected responses: event: 503 10"]


def test_the_table_replaces_the_previous_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- soak: begin -->\nold\n<!-- soak: end -->\nafter\n")
    write_between_markers(page, "soak", "new")
    assert page.read_text() == "before\n<!-- soak: begin -->\nnew\n<!-- soak: end -->\nafter\n"


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match=r"page\.md has no lines"):
        write_between_markers(page, "soak", "new")


# --- traffic and promotions -------------------------------------------------------------------------------------------


async def test_every_user_sends_events_and_each_event_is_recorded_once() -> None:
    settings = SoakSettings(soak_events=4_000, soak_users=1_000, soak_active_users=20)
    received: dict[str, str] = {}
    answers = iter([429, 503])

    async def record(request: web.Request) -> web.Response:
        events = await request.json()
        if (status := next(answers, 200)) != 200:
            return web.json_response({"error": "busy"}, status=status)
        new = {each["event_id"]: each["user_id"] for each in events if each["event_id"] not in received}
        received.update(new)
        return web.json_response({"recorded": len(new), "duplicates": len(events) - len(new)})

    app = web.Application()
    app.router.add_post("/v1/events", record)
    traffic = Traffic(settings, ["a", "b", "c"], np.array([0.5, 0.5, 0.0]), lambda: False)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        await traffic.send_events(session, seconds=0)
    users = list(received.values())
    assert len(users) == traffic.counts.recorded == 4_000
    assert len(set(users)) == 1_000
    assert sum(user.startswith("idle-") for user in users) == traffic.counts.arrived == 980
    assert traffic.counts.duplicates == 0
    assert traffic.counts.refused == {"batch of events: 429": 1, "batch of events: 503": 1}
    assert not traffic.counts.unexpected


def test_histories_are_filled_up_to_the_limits_of_the_store() -> None:
    """Otherwise Redis would grow as intended after the warm-up."""
    assert FILLED_EVENTS >= MAX_EVENT_IDS
    assert FILLED_EVENTS >= MAX_RECENT
    assert TRIMMED_EVENTS == MAX_RECENT - MAX_HISTORY


def test_idle_users_that_do_not_fit_into_the_warm_up_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least four times as many"):
        SoakSettings(soak_events=10_000, soak_users=10_000)


def test_each_promotion_has_weights_of_its_own(tmp_path: Path) -> None:
    jobs = toy.job_settings(tmp_path)
    first = toy.write_model(jobs, "first", seed=1)
    variants = [write_variant(first, number) for number in (1, 2)]
    assert latest_model(jobs.models_dir) == variants[1]
    assert read_training(variants[1]) == {**read_training(first), "fingerprint": "first-2"}
    assert weights_of(final_fit_of(variants[1])) != weights_of(final_fit_of(first))
    assert not variants[0].exists(), "old variants would fill the disk"
    assert {path.name for path in variants[1].iterdir()} == {path.name for path in first.iterdir()}
