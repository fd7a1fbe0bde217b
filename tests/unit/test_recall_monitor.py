"""Which retrievals are checked, how outcomes are counted, and that checks never delay a request."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orchestrator.recall_monitor import LOG_SECONDS, SECONDS_BETWEEN, RecallMonitor
from recsys.adapters.in_memory import InMemoryCollection, InMemoryVectorIndex
from recsys.adapters.local_ranker import LocalRanker
from recsys.clock import ClockFile
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.retrieval import Candidate, CatalogueItem, IndexedItem
from recsys.errors import Overloaded, UpstreamOverloaded, UpstreamTimeout
from recsys.model.release import Release
from tests import toy
from tests.unit.pipeline_case import ITEMS, Broken, open_pipeline, recommend
from training.release_manifest import describe_release

RELEASE = 4711
RETRIEVAL = Retrieval(RELEASE, "w", [1.0], 10, {"seen"}, ["found"])


class Reference:
    """Returns a fixed measurement, or `error`, once `may_answer` is set."""

    def __init__(self) -> None:
        self.asked: list[Retrieval] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        self.asked.append(retrieval)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return RecallMeasurement(num_nearest=10, num_found=7)


@pytest.fixture
def reference() -> Reference:
    return Reference()


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("tandem_retrieval_recall_checks_total", {"outcome": outcome}) or 0.0


def observed(release: int = RELEASE) -> tuple[float, float]:
    """The number of measured checks and the sum of their recalls."""
    labels = {"release": str(release)}
    values = [REGISTRY.get_sample_value(f"tandem_retrieval_recall_{part}", labels) for part in ("count", "sum")]
    return values[0] or 0.0, values[1] or 0.0


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("sample", "checked"), [(0.0, 0), (0.25, 25), (1.0, 100)])
async def test_the_configured_share_is_checked(
    reference: Reference, clock: ClockFile, sample: float, checked: int
) -> None:
    draws = iter(number / 100 for number in range(100))
    monitor = RecallMonitor(reference, sample, draw=lambda: next(draws), clock=clock.now)
    skipped = count("skipped")
    for _ in range(100):
        clock.advance(SECONDS_BETWEEN)
        monitor.on_retrieved(RETRIEVAL)
        await settle()
    assert len(reference.asked) == checked
    assert count("skipped") == skipped


async def test_measurements_are_recorded_by_release(reference: Reference) -> None:
    before, (times, total) = count("measured"), observed()
    RecallMonitor(reference, 1.0).on_retrieved(RETRIEVAL)
    await settle()
    assert reference.asked == [RETRIEVAL]
    assert count("measured") == before + 1
    assert observed() == (times + 1, pytest.approx(total + 0.7))


async def test_during_a_check_others_are_skipped_and_counted(reference: Reference, clock: ClockFile) -> None:
    monitor, skipped = RecallMonitor(reference, 1.0, clock=clock.now), count("skipped")
    reference.may_answer.clear()
    for _ in range(3):
        monitor.on_retrieved(RETRIEVAL)
        await settle()
        clock.advance(SECONDS_BETWEEN)
    assert (len(reference.asked), count("skipped")) == (1, skipped + 2)
    reference.may_answer.set()
    await settle()
    monitor.on_retrieved(RETRIEVAL)
    await settle()
    assert len(reference.asked) == 2


async def test_checks_have_a_minimum_distance(reference: Reference, clock: ClockFile) -> None:
    monitor, skipped = RecallMonitor(reference, 1.0, clock=clock.now), count("skipped")
    for _ in range(10):
        monitor.on_retrieved(RETRIEVAL)
        await settle()
        clock.advance(SECONDS_BETWEEN / 4)
    assert (len(reference.asked), count("skipped")) == (3, skipped + 7)


@pytest.mark.parametrize("error", [UpstreamTimeout("late"), ValueError("a bug")])
async def test_failures_are_counted_and_the_next_check_runs(
    reference: Reference, clock: ClockFile, error: UpstreamTimeout | ValueError
) -> None:
    monitor, failed, (times, _) = RecallMonitor(reference, 1.0, clock=clock.now), count("failed"), observed()
    reference.error = error
    monitor.on_retrieved(RETRIEVAL)
    await settle()
    assert count("failed") == failed + 1
    reference.error = None
    clock.advance(SECONDS_BETWEEN)
    monitor.on_retrieved(RETRIEVAL)
    await settle()
    assert observed()[0] == times + 1


@pytest.mark.parametrize("busy", [Overloaded, UpstreamOverloaded])
async def test_a_check_is_skipped_if_the_reference_is_overloaded(reference: Reference, busy: Any) -> None:
    skipped, failed = count("skipped"), count("failed")
    reference.error = busy("another measurement runs")
    RecallMonitor(reference, 1.0).on_retrieved(RETRIEVAL)
    await settle()
    assert (count("skipped"), count("failed")) == (skipped + 1, failed)


async def test_a_check_that_hangs_is_cancelled(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.recall_monitor.CHECK_SECONDS", 0.01)
    failed = count("failed")
    reference.may_answer.clear()
    RecallMonitor(reference, 1.0).on_retrieved(RETRIEVAL)
    await asyncio.sleep(0.1)
    assert count("failed") == failed + 1


async def test_failures_are_logged_at_a_limited_rate(
    reference: Reference, clock: ClockFile, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = RecallMonitor(reference, 1.0, clock=clock.now)
    reference.error = UpstreamTimeout("late")
    start = clock.now()
    for seconds in (0.0, LOG_SECONDS / 2, LOG_SECONDS - 1, LOG_SECONDS):
        clock.set(start + seconds)
        monitor.on_retrieved(RETRIEVAL)
        await settle()
    assert capsys.readouterr().out.count("recall_check_failed") == 2


async def test_closing_cancels_the_running_check(reference: Reference) -> None:
    monitor = RecallMonitor(reference, 1.0)
    reference.may_answer.clear()
    monitor.on_retrieved(RETRIEVAL)
    await settle()
    await asyncio.wait_for(monitor.close(), 1)
    await RecallMonitor(reference, 1.0).close()


async def test_a_request_does_not_wait_for_its_check(reference: Reference) -> None:
    reference.may_answer.clear()
    monitor = RecallMonitor(reference, 1.0)
    response = await recommend(await open_pipeline(on_retrieved=monitor.on_retrieved), top_k=3)
    assert response.tier_reason == "complete"
    await settle()
    assert len(reference.asked) == 1
    await monitor.close()


async def test_a_retrieval_that_failed_is_not_checked(reference: Reference) -> None:
    pipeline = await open_pipeline(
        index=Broken(UpstreamTimeout("late")), on_retrieved=RecallMonitor(reference, 1.0).on_retrieved
    )
    await recommend(pipeline)
    await settle()
    assert reference.asked == []


async def test_the_check_gets_the_retrieval_of_the_request(reference: Reference) -> None:
    pipeline = await open_pipeline(num_candidates=4, on_retrieved=RecallMonitor(reference, 1.0).on_retrieved)
    await recommend(pipeline, exclude_items=["i5"], top_k=2)
    await settle()
    [asked] = reference.asked
    assert (asked.num_candidates, set(asked.exclude)) == (4, {"i0", "i5"})
    assert len(asked.retrieved) == 4
    assert not set(asked.retrieved) & set(asked.exclude)
    assert set(asked.retrieved) < set(ITEMS)


# --- an index that degrades -------------------------------------------------------------------------------------------


class LossyIndex(InMemoryVectorIndex):
    """Returns only `kept` of the nearest items: fewer items, or other items instead."""

    def __init__(self, collection: InMemoryCollection, kept: int, others_instead: bool) -> None:
        super().__init__({1: collection})
        self._kept = kept
        self._others_instead = others_instead

    async def search(
        self,
        release_version: int | None,
        query_embedding: Sequence[float],
        num_candidates: int,
        exclude: Collection[str] = (),
        settings: Any = None,
    ) -> list[Candidate]:
        everything = await super().search(release_version, query_embedding, len(toy.ITEM_IDS), exclude, settings)
        found = everything[: self._kept]
        return found + everything[num_candidates : 2 * num_candidates - self._kept] if self._others_instead else found


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    directory = toy.write_model(toy.job_settings(tmp_path_factory.mktemp("data")), "first", seed=1)
    describe_release(directory)
    return Release.load(1, directory)


@pytest.mark.parametrize("others_instead", [False, True], ids=["fewer", "others instead"])
@pytest.mark.parametrize(("kept", "recall"), [(20, 1.0), (10, 0.5), (0, 0.0)])
async def test_an_index_that_loses_candidates_has_a_low_recall(
    release: Release, others_instead: bool, kept: int, recall: float
) -> None:
    ranker = LocalRanker()
    ranker.add(release)
    ranker.set_roles(1)
    items = [
        IndexedItem(CatalogueItem(item_id, "", {}), embedding.tolist())
        for item_id, embedding in zip(toy.ITEM_IDS, release.candidate_embeddings, strict=True)
    ]
    index = LossyIndex(InMemoryCollection.of(items, release.manifest.weights_hash), kept, others_instead)
    monitor = RecallMonitor(ranker, 1.0)
    pipeline = await open_pipeline(
        encoder=ranker, ranker=ranker, index=index, num_candidates=20, on_retrieved=monitor.on_retrieved
    )
    times, total = observed(1)
    await recommend(pipeline, "newcomer", session_items=toy.ITEM_IDS[:3], exclude_items=toy.ITEM_IDS[30:35], top_k=5)
    assert monitor._check is not None
    await monitor._check
    assert observed(1) == (times + 1, pytest.approx(total + recall))
