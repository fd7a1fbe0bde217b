"""Guarded calls: their timeouts, their effect on the breaker, and the errors they raise."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from recsys.adapters.upstream import PATIENCE_SECONDS, Upstream
from recsys.breaker import FAILING_SECONDS, FAILURES, State
from recsys.deadline import Deadline
from recsys.errors import (
    ReleaseNotLoaded,
    TandemError,
    UnknownItem,
    UpstreamAnswerInvalid,
    UpstreamOverloaded,
    UpstreamSuspended,
    UpstreamTimeout,
    UpstreamUnavailable,
)

ENOUGH = PATIENCE_SECONDS * 1.2


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Upstream:
    return Upstream(request.node.name)


async def call(upstream: Upstream, error: BaseException | None = None) -> None:
    async with upstream.call():
        if error is not None:
            raise error


async def hang(upstream: Upstream, seconds: float) -> None:
    with Deadline(seconds).activate():
        async with upstream.call():
            await asyncio.Event().wait()


async def repeat(upstream: Upstream, error: TandemError) -> None:
    for _ in range(FAILURES):
        with pytest.raises(type(error)):
            await call(upstream, error)
        await asyncio.sleep(FAILING_SECONDS / (FAILURES - 1))


@pytest.mark.parametrize(
    "error", [UpstreamUnavailable("unreachable"), UpstreamAnswerInvalid("garbage"), UpstreamTimeout("slow")]
)
async def test_calls_to_a_failing_upstream_are_suspended(
    upstream: Upstream, error: UpstreamAnswerInvalid | UpstreamTimeout | UpstreamUnavailable
) -> None:
    await repeat(upstream, error)
    with pytest.raises(UpstreamSuspended):
        await call(upstream)


@pytest.mark.parametrize("error", [ReleaseNotLoaded("other"), UnknownItem("none"), UpstreamOverloaded("busy")])
async def test_an_upstream_that_rejects_requests_is_healthy(
    upstream: Upstream, error: ReleaseNotLoaded | UnknownItem | UpstreamOverloaded
) -> None:
    await repeat(upstream, error)
    await call(upstream)
    assert upstream.state == State.CLOSED


async def test_a_call_ends_at_the_deadline(upstream: Upstream) -> None:
    with pytest.raises(UpstreamTimeout):
        await hang(upstream, 0.01)


async def test_calls_to_a_hanging_upstream_are_suspended(upstream: Upstream) -> None:
    for _ in range(FAILURES + 1):
        with pytest.raises((UpstreamTimeout, UpstreamSuspended)):  # suspended one call earlier on a busy machine
            await hang(upstream, ENOUGH)
    assert upstream.state == State.OPEN


async def test_timeouts_of_very_short_calls_do_not_count(upstream: Upstream) -> None:
    for _ in range(2 * FAILURES):
        with pytest.raises(UpstreamTimeout):
            await hang(upstream, PATIENCE_SECONDS / 10)
    assert upstream.state == State.CLOSED


async def abandon(upstream: Upstream, allowed: float, after: float) -> None:
    """A call that its caller cancels."""
    task = asyncio.create_task(hang(upstream, allowed))
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_calls_cancelled_before_the_deadline_do_not_count(upstream: Upstream) -> None:
    for _ in range(2 * FAILURES):
        await abandon(upstream, allowed=10.0, after=0.001)
    assert upstream.state == State.CLOSED


async def test_bugs_in_this_process_do_not_count(upstream: Upstream) -> None:
    for _ in range(FAILURES):
        with pytest.raises(TypeError):
            await call(upstream, TypeError("a bug"))
    assert upstream.state == State.CLOSED


def in_state(upstream: Upstream, state: State) -> float | None:
    return REGISTRY.get_sample_value("tandem_breaker_state", {"upstream": upstream.name, "state": state})


async def test_the_breakers_of_replicas_are_counted_by_state(upstream: Upstream) -> None:
    other = Upstream(upstream.name)
    assert (in_state(upstream, State.CLOSED), in_state(upstream, State.OPEN)) == (2, 0)
    await repeat(other, UpstreamUnavailable("unreachable"))
    assert (in_state(upstream, State.CLOSED), in_state(upstream, State.OPEN)) == (1, 1)
    other.forget()
    assert (in_state(upstream, State.CLOSED), in_state(upstream, State.OPEN)) == (1, 0)
