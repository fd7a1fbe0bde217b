"""The states of dependencies, as an operator and Prometheus see them."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from orchestrator.dependencies import STALE_SECONDS, Dependencies
from recsys.clock import ClockFile
from recsys.errors import UpstreamUnavailable
from recsys.web.readiness import OK, Readiness


@pytest.fixture
def dependencies(clock: ClockFile) -> Dependencies:
    return Dependencies("ranker", "index", clock=clock.now)


async def fine() -> None:
    """A check without a problem."""


async def forever() -> None:
    await asyncio.Event().wait()


async def away() -> None:
    raise UpstreamUnavailable("it cannot be reached")


def metric(name: str) -> float | None:
    return REGISTRY.get_sample_value("tandem_dependency_ok", {"dependency": name})


async def test_a_check_reports_what_it_returns_or_raises(dependencies: Dependencies) -> None:
    assert await dependencies.check("ranker", fine)
    assert not await dependencies.check("index", away)
    assert dependencies.states == {"ranker": OK, "index": "it cannot be reached"}


async def test_a_cancellation_that_nobody_asked_for_is_reported(dependencies: Dependencies) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    assert not await dependencies.check("ranker", cancelled)
    assert dependencies.states["ranker"] == "the check failed: CancelledError"


async def test_a_check_can_be_cancelled(dependencies: Dependencies) -> None:
    task = asyncio.create_task(dependencies.check("ranker", forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_every_dependency_has_a_metric(dependencies: Dependencies) -> None:
    assert (metric("ranker"), metric("index")) == (0, 0)
    await dependencies.check("ranker", fine)
    assert (metric("ranker"), metric("index")) == (1, 0)


async def test_states_that_are_no_longer_checked_are_unknown(dependencies: Dependencies, clock: ClockFile) -> None:
    await dependencies.check("ranker", fine)
    dependencies.finish()
    clock.advance(STALE_SECONDS)
    assert dependencies.states["ranker"] == OK
    clock.advance(1)
    assert dependencies.states["ranker"] == f"not checked for {STALE_SECONDS + 1:.0f} s"
    assert metric("ranker") == 0
    dependencies.finish()
    assert dependencies.states["ranker"] == OK


def test_a_service_that_can_serve_may_be_degraded() -> None:
    degraded = Readiness(ready=True, dependencies={"ranker": OK, "index": "missing"})
    assert degraded.model_dump() == {
        "ready": True,
        "dependencies": {"ranker": OK, "index": "missing"},
        "degraded": True,
    }
    assert not Readiness(ready=True, dependencies={"ranker": OK}).degraded
