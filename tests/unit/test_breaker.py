"""When the breaker stops calls to a failing upstream, and when it allows them again."""

import pytest

from recsys.breaker import FAILING_SECONDS, FAILURES, OPEN_SECONDS, Breaker, State
from recsys.clock import ClockFile


@pytest.fixture
def states() -> list[State]:
    return []


@pytest.fixture
def breaker(clock: ClockFile, states: list[State]) -> Breaker:
    return Breaker(states.append, clock.now)


def fail(breaker: Breaker, clock: ClockFile, times: int, seconds: float = FAILING_SECONDS) -> None:
    """`times` failures, spread so that `FAILURES` of them take `seconds`."""
    for number in range(times):
        assert breaker.admits()
        breaker.failed()
        if number < times - 1:
            clock.advance(seconds / (FAILURES - 1))


def test_it_opens_after_the_configured_number_of_failures(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES - 1, seconds=10 * FAILING_SECONDS)
    assert breaker.state == State.CLOSED
    fail(breaker, clock, 1)
    assert breaker.state == State.OPEN
    assert not breaker.admits()


def test_a_success_resets_the_count_of_failures(breaker: Breaker, clock: ClockFile) -> None:
    for _ in range(3):
        fail(breaker, clock, FAILURES - 1, seconds=10 * FAILING_SECONDS)
        breaker.succeeded()
    assert breaker.state == State.CLOSED


def test_many_failures_at_the_same_time_do_not_open_it(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, 10 * FAILURES, seconds=0.0)
    assert breaker.state == State.CLOSED
    clock.advance(FAILING_SECONDS)
    breaker.failed()
    assert breaker.state == State.OPEN


def test_after_a_while_one_trial_call_is_allowed(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS)
    assert breaker.admits()
    assert breaker.state == State.HALF_OPEN
    assert not breaker.admits()


def test_a_successful_trial_closes_it(breaker: Breaker, clock: ClockFile, states: list[State]) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS)
    breaker.admits()
    breaker.succeeded()
    fail(breaker, clock, FAILURES - 1)
    assert breaker.state == State.CLOSED
    assert states == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_failed_trial_opens_it_again(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS)
    fail(breaker, clock, 1)
    assert breaker.state == State.OPEN
    assert not breaker.admits()
    clock.advance(OPEN_SECONDS)
    assert breaker.admits()


def test_after_an_abandoned_trial_the_next_call_may_try(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS)
    breaker.admits()
    breaker.abandoned()
    assert breaker.admits()


def test_if_a_trial_never_reports_its_outcome_another_call_may_try_later(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS)
    assert breaker.admits()
    clock.advance(OPEN_SECONDS)
    assert breaker.admits()


def test_calls_from_before_it_opened_do_not_keep_it_open(breaker: Breaker, clock: ClockFile) -> None:
    fail(breaker, clock, FAILURES)
    clock.advance(OPEN_SECONDS / 2)
    breaker.failed()
    clock.advance(OPEN_SECONDS / 2)
    assert breaker.admits()
