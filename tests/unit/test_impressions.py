"""Served recommendations on their way to the event log."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from orchestrator import impressions
from orchestrator.impressions import ImpressionBuffer
from recsys.adapters.in_memory_event_log import InMemoryEventLog
from recsys.contracts.base import MAX_ID_LENGTH, MAX_TOP_K
from recsys.contracts.event_log import SCHEMA_VERSION, ImpressionBatch, ImpressionsAppended
from recsys.contracts.recommendation import Recommendation, RecommendationResponse, Tier
from recsys.errors import InvalidRequest, StorageFull, TandemError
from recsys.web.body_limit import MAX_BODY_BYTES


def response(number: int, *item_ids: str) -> RecommendationResponse:
    items = [
        Recommendation(item_id=item_id, score=1.0, rank=rank, title="A title", metadata={})
        for rank, item_id in enumerate(item_ids, start=1)
    ]
    return RecommendationResponse(
        recommendations=items,
        release_version=3,
        recommendation_id=f"r{number}.champion",
        user_id="ann",
        total_candidates=9,
        tier=Tier.POPULAR,
        tier_reason="unknown_user",
        variant="champion",
        timings_ms={"total": 12.5},
    )


class FailingLog(InMemoryEventLog):
    """Fails with each of the errors in turn, before or after it has appended the batch."""

    def __init__(self, *errors: TandemError, after: bool = False) -> None:
        super().__init__()
        self._errors = list(errors)
        self._after = after

    async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
        if self._errors:
            if self._after:
                await super().append(batch)
            raise self._errors.pop(0)
        return await super().append(batch)


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("tandem_impressions_dropped_total", {"reason": reason}) or 0.0


def ids(log: InMemoryEventLog) -> list[str]:
    return [each.recommendation_id for each in log.impressions]


async def test_an_impression_has_what_was_served() -> None:
    log = InMemoryEventLog()
    buffer = ImpressionBuffer(log)
    buffer.add(response(1, "b", "a"), "basket")
    await buffer.send()
    [impression] = log.impressions
    assert impression.model_dump(mode="json", exclude={"server_time"}) == {
        "recommendation_id": "r1.champion",
        "user_id": "ann",
        "item_ids": ["b", "a"],
        "release": 3,
        "variant": "champion",
        "tier": "popular",
        "tier_reason": "unknown_user",
        "placement": "basket",
        "took_ms": 12.5,
        "schema_version": SCHEMA_VERSION,
    }


async def test_a_batch_is_valid_even_with_the_longest_ids() -> None:
    batches = []

    class Checking(InMemoryEventLog):
        async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
            batches.append(batch.model_dump_json().encode())
            return await super().append(batch)

    buffer = ImpressionBuffer(Checking())
    page = [f"{number:04}".ljust(MAX_ID_LENGTH, "\0") for number in range(MAX_TOP_K)]
    for number in range(300):
        buffer.add(response(number, *page[: 1 + number % MAX_TOP_K]), "default")
    await buffer.send()
    sent = [ImpressionBatch.model_validate_json(batch) for batch in batches]
    assert max(map(len, batches)) < MAX_BODY_BYTES
    assert [each.recommendation_id for batch in sent for each in batch.impressions] == [
        f"r{number}.champion" for number in range(300)
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before it is appended", "after it was appended"])
async def test_a_failed_batch_is_sent_again_and_appended_once(after: bool) -> None:
    log = FailingLog(StorageFull("full"), StorageFull("full"), after=after)
    buffer = ImpressionBuffer(log)
    buffer.add(response(1), "default")
    await buffer.send()
    buffer.add(response(2), "default")
    await buffer.send()
    await buffer.send()
    assert ids(log) == ["r1.champion", "r2.champion"]


async def test_a_batch_that_is_refused_for_ever_is_dropped_and_counted() -> None:
    log, before = FailingLog(InvalidRequest("no")), dropped("refused")
    buffer = ImpressionBuffer(log)
    buffer.add(response(1), "default")
    await buffer.send()
    buffer.add(response(2), "default")
    await buffer.send()
    assert ids(log) == ["r2.champion"]
    assert dropped("refused") == before + 1


async def test_a_full_buffer_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impressions, "MAX_WAITING", 3)
    log, before = InMemoryEventLog(), dropped("buffer_full")
    buffer = ImpressionBuffer(log)
    for number in range(5):
        buffer.add(response(number), "default")
    assert dropped("buffer_full") == before + 2
    assert REGISTRY.get_sample_value("tandem_impressions_waiting") == 3
    await buffer.send()
    buffer.add(response(5), "default")
    await buffer.send()
    assert ids(log) == ["r0.champion", "r1.champion", "r2.champion", "r5.champion"]


async def test_closing_sends_what_waits() -> None:
    log, before = InMemoryEventLog(), dropped("stopped")
    buffer = ImpressionBuffer(log)
    buffer.add(response(1), "default")
    await buffer.close()
    assert ids(log) == ["r1.champion"]
    assert dropped("stopped") == before


async def test_closing_does_not_wait_for_an_upstream_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impressions, "CLOSE_SECONDS", 0.01)

    class Hanging(InMemoryEventLog):
        async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
            await asyncio.Event().wait()
            raise AssertionError

    before = dropped("stopped")
    buffer = ImpressionBuffer(Hanging())
    buffer.add(response(1), "default")
    await buffer.close()
    assert dropped("stopped") == before + 1
