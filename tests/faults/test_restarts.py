"""Services are restarted one by one under load, stopped while requests are in flight, and started in any order."""

import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import httpx
import pytest

from local.settings import HOST
from tests import toy
from tests.engines import Process, answers_with_200, eventually
from tests.fault_proxy import FORWARDING, Behaviour
from tests.faults.expected import Answered
from tests.faults.faults import FULL, STAGES, is_right, was_crowded_out
from tests.faults.load import Load
from tests.faults.rig import SERVICES, Rig

DEADLINE_MS = 1000
"""Long, because a process that starts or ends takes CPU from the others, and the question is what gets lost."""
ENDED = (0, -signal.SIGTERM)
BEFORE_SECONDS, DRAIN_SECONDS, AFTER_SECONDS = 0.5, 0.2, 1.0
PORTS = {
    "feature_service": "feature_service_port",
    "ranker_service": "ranker_port",
    "orchestrator": "orchestrator_port",
}

# --- rolling restarts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_rolling_restart_under_load_loses_nothing(rig: Rig, tmp_path: Path, name: str) -> None:
    rig.wait_until_well()
    proxy, first = rig.proxies[name], rig.processes[name]
    first_port = getattr(rig.settings, PORTS[name])
    second, second_port = rig.replica(name, PORTS[name], tmp_path)
    starting: list[tuple[float, float]] = []
    # Callers of the orchestrator do not retry when a kept connection closes as they reuse it.
    with Load(rig.url, keep_connections=name != "orchestrator", deadline_ms=DEADLINE_MS) as load:
        time.sleep(BEFORE_SECONDS)
        try:
            with _recorded(starting):
                _start(second, second_port)
            proxy.targets = [second_port]
            # A connection that waits to be accepted is lost when the listening socket closes, so balancers drain first.
            time.sleep(DRAIN_SECONDS)
            first.ask_to_end()
            assert first.wait_until_ended() in ENDED
            time.sleep(AFTER_SECONDS)
            with _recorded(starting):
                _start(first, first_port)
        finally:
            proxy.targets = [first_port]
            time.sleep(DRAIN_SECONDS)
            second.ask_to_end()
        assert second.wait_until_ended() in ENDED
        time.sleep(AFTER_SECONDS)
    calm = [each for each in load.answers if not _overlaps(each, starting)]
    expected = [each for each in calm if not was_crowded_out(each, STAGES.get(name, ()), DEADLINE_MS)]
    print(f"\n{name}: {len(load.answers)} answers, {len(calm) - len(expected)} of {len(calm)} crowded out")
    assert not [f"{each.outcome}: {each.problems}" for each in load.answers if each.problems]
    assert not [f"{each.question.kind}: {each.outcome}" for each in expected if not is_right(each, FULL)]
    assert len(expected) >= 0.8 * len(calm)


def _start(process: Process, port: int) -> None:
    process.start()
    process.wait_until_up()
    eventually(lambda: answers_with_200(f"http://{HOST}:{port}/readyz"), "it did not become ready")


@contextmanager
def _recorded(periods: list[tuple[float, float]]) -> Iterator[None]:
    """Record when a process started, because that takes CPU from the others."""
    began = time.perf_counter()
    yield
    periods.append((began, time.perf_counter()))


def _overlaps(answered: Answered, periods: list[tuple[float, float]]) -> bool:
    return any(answered.sent <= end and answered.received >= began for began, end in periods)


# --- SIGTERM with requests in flight ----------------------------------------------------------------------------------

IN_FLIGHT = 8
SLOW_SECONDS = 0.3
SLOW_UPSTREAM = {"orchestrator": "ranker_service", "feature_service": "redis"}
REQUESTS = {
    "orchestrator": ("POST", "/v1/recommendations", b'{"user_id": "user-1"}'),
    "feature_service": ("GET", "/v1/users/user-1/features", None),
    "ranker_service": ("POST", "/v1/rank", b'{"recent_items": ["item-01"], "candidate_items": ["item-02", "item-03"]}'),
}


@pytest.mark.parametrize("name", SERVICES)
def test_requests_that_are_under_way_when_a_service_is_told_to_end_are_answered(rig: Rig, name: str) -> None:
    """The requests wait for a slow upstream or, as the ranker has none, for the rest of their body."""
    rig.wait_until_well()
    process = rig.processes[name]
    slow = rig.proxies[SLOW_UPSTREAM[name]] if name in SLOW_UPSTREAM else None
    if slow is not None:
        slow.behave(Behaviour(delay_seconds=SLOW_SECONDS))
    try:
        with ThreadPoolExecutor(IN_FLIGHT) as callers:
            url = f"http://{HOST}:{getattr(rig.settings, PORTS[name])}"
            connected = Barrier(IN_FLIGHT + 1)
            requests = [callers.submit(_ask, url, name, connected) for _ in range(IN_FLIGHT)]
            connected.wait()
            time.sleep(SLOW_SECONDS / 2)
            assert not any(each.done() for each in requests), "no request was in flight"
            process.ask_to_end()
            answers = [each.result() for each in requests]
        assert process.wait_until_ended() in ENDED
    finally:
        if slow is not None:
            slow.behave(FORWARDING)
        process.start()
        process.wait_until_up()
        rig.wait_until_well()
    assert [each.status_code for each in answers] == [200] * IN_FLIGHT
    if name == "orchestrator":
        assert {each.json()["tier_reason"] for each in answers} == {"complete"}


def _ask(url: str, name: str, connected: Barrier) -> httpx.Response:
    method, path, body = REQUESTS[name]
    content = body if name in SLOW_UPSTREAM or body is None else _slowly(body)
    headers = {"content-type": "application/json", "x-deadline-ms": "2000"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        client.get("/healthz")
        connected.wait()
        return client.request(method, path, content=content)


def _slowly(body: bytes) -> Iterator[bytes]:
    yield body[:10]
    time.sleep(SLOW_SECONDS)
    yield body[10:]


# --- any order --------------------------------------------------------------------------------------------------------

ORDERS = (
    ("orchestrator", "ranker_service", "feature_service", "mlflow", "qdrant", "redis"),
    ("ranker_service", "redis", "orchestrator", "qdrant", "feature_service", "mlflow"),
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order[0]} first")
def test_services_and_stores_start_in_any_order(rig: Rig, order: tuple[str, ...]) -> None:
    """Each is up before the next one starts, and the ranker has no local copy of a release."""
    for process in rig.processes.values():
        process.stop()
    shutil.rmtree(rig.settings.home / "releases")
    for name in order:
        rig.processes[name].start()
        rig.processes[name].wait_until_up()
    rig.wait_until_well()
    answer = httpx.post(
        f"{rig.url}/v1/recommendations",
        json={"user_id": next(iter(toy.USERS))},
        headers={"x-deadline-ms": "2000"},  # whether it is fast on a busy machine is not the question here
        timeout=10,
    )
    assert (answer.status_code, answer.json()["tier"]) == (200, "personalized"), answer.text
