"""A recommendation costs no more CPU than before, within a generous factor. `make bench` measures the cost exactly."""

import json
import time

import httpx
import psutil

from tests import toy
from tests.faults.rig import SERVICES, Rig

WARM_UP, REQUESTS = 100, 500
ROUND_TRIPS = 200
DOCUMENT = {"items": [{"item_id": f"item-{number}", "score": number / 7, "title": "A title"} for number in range(50)]}
USUAL_COST = 0.4
"""Of a request, in ROUND_TRIPS of DOCUMENT through JSON: a loop of Python code that slows down as the services do."""
TOLERATED = 2.5


def test_a_recommendation_costs_little_cpu(rig: Rig) -> None:
    rig.wait_until_well()
    processes = [process for name in SERVICES for process in rig.processes[name].family]
    users = list(toy.USERS)
    with httpx.Client(base_url=rig.settings.orchestrator_url, timeout=10) as client:
        for number in range(WARM_UP + REQUESTS):
            if number == WARM_UP:
                before, calibration = cpu_seconds(processes), calibration_seconds()
            client.post("/v1/recommendations", json={"user_id": users[number % len(users)]}).raise_for_status()
    cost = (cpu_seconds(processes) - before) / REQUESTS / min(calibration, calibration_seconds())
    assert cost < TOLERATED * USUAL_COST


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def calibration_seconds() -> float:
    started = time.process_time()
    for _ in range(ROUND_TRIPS):
        json.loads(json.dumps(DOCUMENT))
    return time.process_time() - started
