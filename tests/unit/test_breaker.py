"""When a failing upstream is left alone, and when it is tried again."""

import pytest

from recsys.breaker import FAILING_SECONDS, FAILURES, OPEN_SECONDS, Breaker, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[State]:
    return []


@pytest.fixture
def breaker(clock: Clock, told: list[State]) -> Breaker:
    return Breaker(told.append, clock)


def fail(breaker: Breaker, clock: Clock, times: int, seconds: float = FAILING_SECONDS) -> None:
    """So many failures, the last of them so much later than the first."""
    for number in range(times):
        assert breaker.admits()
        breaker.failed()
        if number < times - 1:
            clock.now += seconds / (FAILURES - 1)


def test_it_opens_at_so_many_failures_and_not_one_before(breaker, clock):
    fail(breaker, clock, FAILURES - 1, seconds=10 * FAILING_SECONDS)
    assert breaker.state == State.CLOSED
    fail(breaker, clock, 1)
    assert breaker.state == State.OPEN
    assert not breaker.admits()


def test_a_success_between_failures_starts_the_count_anew(breaker, clock):
    for _ in range(3):
        fail(breaker, clock, FAILURES - 1, seconds=10 * FAILING_SECONDS)
        breaker.succeeded()
    assert breaker.state == State.CLOSED


def test_many_failures_at_one_moment_do_not_open_it(breaker, clock):
    fail(breaker, clock, 10 * FAILURES, seconds=0.0)
    assert breaker.state == State.CLOSED
    clock.now += FAILING_SECONDS
    breaker.failed()
    assert breaker.state == State.OPEN


def test_after_a_while_one_call_is_let_through_and_no_other(breaker, clock):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS
    assert breaker.admits()
    assert breaker.state == State.HALF_OPEN
    assert not breaker.admits()


def test_where_that_call_succeeds_all_is_as_before(breaker, clock, told):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS
    breaker.admits()
    breaker.succeeded()
    fail(breaker, clock, FAILURES - 1)
    assert breaker.state == State.CLOSED
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_where_it_fails_the_upstream_is_left_alone_again(breaker, clock):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS
    fail(breaker, clock, 1)
    assert breaker.state == State.OPEN
    assert not breaker.admits()
    clock.now += OPEN_SECONDS
    assert breaker.admits()


def test_where_it_is_given_up_the_next_one_may_try(breaker, clock):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS
    breaker.admits()
    breaker.abandoned()
    assert breaker.admits()


def test_where_its_outcome_is_never_told_another_may_try_later(breaker, clock):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS
    assert breaker.admits()
    clock.now += OPEN_SECONDS
    assert breaker.admits()


def test_calls_that_began_before_it_opened_do_not_keep_it_open(breaker, clock):
    fail(breaker, clock, FAILURES)
    clock.now += OPEN_SECONDS / 2
    breaker.failed()
    clock.now += OPEN_SECONDS / 2
    assert breaker.admits()
