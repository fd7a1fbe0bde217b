"""Simulated visitors against an API over a socket: what they send, and when."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from local.ports import free_ports
from local.settings import HOST
from recsys.clock import ClockFile
from recsys.errors import JobError
from simulation.plan import Plan
from simulation.policies import Oracle, PolicyName, Popular, Served, frozen
from simulation.population import Population
from simulation.shop_client import shop_client
from simulation.shop_files import unix_time
from simulation.visits import Arm, Shop
from simulation.world import World

PLAN = Plan(visitors=20, visits_per_day=30)
DAY = PLAN.season_day + 5


class RecordingApi:
    """Recommends the most popular items, and remembers every request and the time of it."""

    def __init__(self, world: World, clock: ClockFile) -> None:
        popular = np.argsort(-world.today(DAY).popularity)
        self.shown = [world.item_ids[item] for item in popular[:20]]
        self.clock = clock
        self.pages: list[tuple[dict[str, Any], str | None]] = []
        self.events: list[dict[str, Any]] = []
        self.ahead: list[float] = []
        self.refused = 0

    async def recommend(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.pages.append((body, request.headers.get("X-Variant")))
        items = [{"item_id": item_id} for item_id in self.shown[: body["top_k"]]]
        page = {"recommendation_id": f"r{len(self.pages)}", "release": 3, "variant": "champion", "tier": "personalized"}
        return web.json_response({**page, "recommendations": items})

    async def popular(self, request: web.Request) -> web.Response:
        return web.json_response({"recommendations": [{"item_id": item_id} for item_id in self.shown]})

    async def record(self, request: web.Request) -> web.Response:
        if self.refused < 2:  # as a busy API does
            self.refused += 1
            return web.json_response({"error": "overloaded"}, status=503)
        events = await request.json()
        self.events += events
        self.ahead += [event["timestamp"] - self.clock.now() for event in events]
        return web.json_response({"recorded": len(events), "duplicates": 0})


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, PLAN.assortment)


@pytest.fixture
def clock(tmp_path: Path) -> ClockFile:
    return ClockFile(tmp_path / "clock", unix_time(DAY))


@pytest.fixture
async def api(world: World, clock: ClockFile) -> AsyncIterator[tuple[RecordingApi, str]]:
    recording = RecordingApi(world, clock)
    app = web.Application()
    app.router.add_post("/v1/recommendations", recording.recommend)
    app.router.add_post("/v1/events", recording.record)
    app.router.add_get("/v1/popular", recording.popular)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, HOST, port).start()
    yield recording, f"http://{HOST}:{port}"
    await runner.cleanup()


def visitors(world: World, names: str) -> Population:
    return Population.of(world, names, PLAN.visitors, PLAN.habits, np.random.default_rng(2))


async def test_a_day_of_all_policies(world: World, clock: ClockFile, api: tuple[RecordingApi, str]) -> None:
    recording, url = api
    closed = visitors(world, "C")
    shop = Shop(world, clock)
    async with shop_client(url) as client:
        arms = [
            Arm(PolicyName.CLOSED, closed, Served(client, world, 10)),
            Arm(PolicyName.FROZEN, visitors(world, "F"), frozen(client, world, 10)),
            Arm(PolicyName.POPULAR, closed.copy(), Popular(client, world, 10)),
            Arm(PolicyName.ORACLE, closed.copy(), Oracle(10)),
        ]
        await shop.day(DAY, arms)

    assert {(body["user_id"][0], variant) for body, variant in recording.pages} == {("C", None), ("F", "challenger")}
    served = [view for view in shop.views if view.policy in (PolicyName.CLOSED, PolicyName.FROZEN)]
    assert len(served) == len(recording.pages) > 20
    assert {view.release for view in served} == {3}
    clicked = {event["recommendation_id"] for event in recording.events} - {None}
    assert len(clicked) == sum(view.clicked for view in served) > 0
    assert all(event["item_id"] in recording.shown for event in recording.events if event["recommendation_id"])
    without = [event for event in recording.events if event["recommendation_id"] is None]
    assert len(without) > len(served) - len(clicked), "half of the visits look at no page"
    assert sum(arm.policy.acknowledged for arm in arms if isinstance(arm.policy, Served)) == len(recording.events)
    assert clock.now() == unix_time(DAY + 1)
    assert max(recording.ahead) < 20 * 60, "the clock is at the end of a slice in which its visits begin"

    share = {policy: np.mean([view.clicked for view in shop.views if view.policy == policy]) for policy in PolicyName}
    assert share[PolicyName.ORACLE] > share[PolicyName.POPULAR]


async def test_a_refused_request_ends_the_simulation(api: tuple[RecordingApi, str]) -> None:
    async with shop_client(api[1]) as client:
        with pytest.raises(JobError, match="GET /v1/missing answered 404"):
            await client._call("GET", "/v1/missing")
