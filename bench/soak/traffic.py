"""The traffic of a soak: pages that ask for recommendations, and a log of events that is sent in batches."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from bench.settings import SoakSettings
from recsys.contracts.events import MAX_EVENTS
from recsys.errors import JobError

PAGES_PER_SECOND = 20.0
EVENTS_PER_BATCH = 100
BATCHES_IN_FLIGHT = 4
FILLED_EVENTS = MAX_EVENTS
"""Events that fill an active user's history: as many as event ids are kept per user, so only a leak can grow later."""
TRIMMED_EVENTS = 300
"""The store trims a history when it is this much too long. So each user starts with up to this many more events, and
the histories are not all trimmed at the same time."""
FILLED_SECONDS = 30 * 86_400
ITEMS_PER_USER = 150
"""An active user's events have these items only, so the items that a user has seen stop growing, too."""
BATCH, SINGLE_EVENT = "batch of events", "event"
BATCH_DEADLINE = {"X-Deadline-Ms": "2000"}
GIVE_UP_SECONDS = 60.0
REPEAT_SECONDS = 0.5
EXPECTED_REASONS = ("complete", "unknown_user", "no_known_items")
"""A response with another reason has a lower tier than the stack could serve."""
OK, INVALID, NO_RESPONSE = 200, 422, 0
REFUSED = (429,)
EVENTS_REFUSED = (429, 503, 504)
"""Documented answers of a busy stack. Events that get one are sent again until they are acknowledged."""
EVENT_KINDS = ("view", "view", "view", "add_to_cart", "purchase")

Event = dict[str, Any]


@dataclass
class Counts:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By kind of request and status: what a busy service may answer."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """By kind of request and status: what no service should answer."""
    tiers: Counter[str] = field(default_factory=Counter)
    lowered: Counter[str] = field(default_factory=Counter)
    """Tiers and reasons of responses that are worse than expected."""
    lowered_in_promotions: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """Of recommendations."""
    recorded: int = 0
    duplicates: int = 0
    arrived: int = 0
    """Idle users that have sent their event."""

    @property
    def requests(self) -> int:
        return self.statuses.total()


class Traffic:
    """`is_promoting` says whether a promotion runs. All choices are reproducible."""

    def __init__(
        self,
        settings: SoakSettings,
        item_ids: Sequence[str],
        popularity: NDArray[np.float64],
        is_promoting: Callable[[], bool],
    ) -> None:
        """`popularity` [items] holds the share of each item in the events of the log."""
        self.counts = Counts()
        self._settings = settings
        self._is_promoting = is_promoting
        self._chance = random.Random(1)
        self._items = list(item_ids)
        rng = np.random.default_rng(1)
        per_user = min(ITEMS_PER_USER, int(np.count_nonzero(popularity)))
        self._items_of: list[list[str]] = [
            rng.choice(self._items, per_user, replace=False, p=popularity).tolist()
            for _ in range(settings.soak_active_users)
        ]

    async def fill(self, session: aiohttp.ClientSession, progress: Callable[[int], object]) -> None:
        """Send events of every active user until their histories have the maximum length."""
        users = iter(range(self._settings.soak_active_users))

        async def client() -> None:
            for user in users:
                for batch in self._past_events(user):
                    await self._record(session, batch)
                progress(1)

        await _all(client() for _ in range(BATCHES_IN_FLIGHT))
        self.counts = Counts()

    async def send_events(self, session: aiohttp.ClientSession, seconds: float) -> None:
        """Send `soak_events` events at an even rate; slower if the services cannot keep up."""
        started, slots = time.monotonic(), asyncio.Semaphore(BATCHES_IN_FLIGHT)

        async def send(first: int) -> None:
            try:
                batch, arrivals = self._batch(first)
                await self._record(session, batch)
                self.counts.arrived += arrivals
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for first in range(0, self._settings.soak_events, EVENTS_PER_BATCH):
                due = started + seconds * first / self._settings.soak_events
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await slots.acquire()
                group.create_task(send(first))

    async def visit_pages(self, session: aiohttp.ClientSession) -> None:
        """Send requests at a fixed rate, whether or not earlier ones have finished, until it is cancelled."""
        started, sent = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while True:
                while sent < (time.monotonic() - started) * PAGES_PER_SECOND:
                    group.create_task(self._visit(session))
                    sent += 1
                await asyncio.sleep(0.005)

    def _batch(self, first: int) -> tuple[list[Event], int]:
        """Events number `first` and following, and how many are the only event of an idle user."""
        last = min(first + EVENTS_PER_BATCH, self._settings.soak_events)
        arriving = range(self._due(first), self._due(last))
        events = [self._event(f"idle-{number}", None, f"idle-{number}") for number in arriving]
        active = range(first, last - len(arriving))
        events += [self._event(f"soak-{number}", self._active_user()) for number in active]
        return events, len(arriving)

    def _past_events(self, user: int) -> list[list[Event]]:
        """Batches of events, evenly over the last weeks: in one second, equal events would count as one."""
        count = FILLED_EVENTS + self._chance.randint(1, TRIMMED_EVENTS)
        first, pause = time.time() - FILLED_SECONDS, FILLED_SECONDS / count
        events = [
            {**self._event(f"fill-{user}-{number}", user), "timestamp": first + pause * number}
            for number in range(count)
        ]
        return [events[:FILLED_EVENTS], events[FILLED_EVENTS:]]

    def _due(self, number: int) -> int:
        """How many idle users arrive before event `number`."""
        idle = self._settings.idle_users
        return min(idle, number * idle // self._settings.arrival_events)

    def _active_user(self) -> int:
        return self._chance.randrange(self._settings.soak_active_users)

    def _event(self, event_id: str, active_user: int | None, user_id: str = "") -> Event:
        if active_user is None:
            item_id = self._chance.choice(self._items)
        else:
            user_id = f"active-{active_user}"
            item_id = self._chance.choice(self._items_of[active_user])
        event = self._chance.choice(EVENT_KINDS)
        return {"event_id": event_id, "user_id": user_id, "item_id": item_id, "event": event}

    async def _record(self, session: aiohttp.ClientSession, events: list[Event], kind: str = BATCH) -> None:
        """Send events until they are acknowledged. Raises JobError if that takes too long."""
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while True:
            status, content = await self._send(session, kind, "POST", "/v1/events", events)
            if status == OK:
                self.counts.recorded += content["recorded"]
                self.counts.duplicates += content["duplicates"]
                return
            if time.monotonic() > give_up:
                raise JobError(f"events were refused for {GIVE_UP_SECONDS:.0f} s: status {status}, {content}")
            await asyncio.sleep(REPEAT_SECONDS)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        """Send one random request of a kind that a page sends."""
        item, kind = self._chance.choice(self._items), self._chance.random()
        recommendations = "/v1/recommendations"
        if kind < 0.55:
            await self._send(session, "recommendation", "POST", recommendations, self._recommendation())
        elif kind < 0.6:
            body = {"user_id": self._user(), "candidate_items": self._chance.sample(self._items, 50)}
            await self._send(session, "ranking", "POST", recommendations, body)
        elif kind < 0.75:
            event = self._event(f"page-{self._chance.getrandbits(64):x}", self._active_user())
            await self._record(session, [event], SINGLE_EVENT)
        elif kind < 0.8:
            await self._send(session, "search", "GET", "/v1/items?query=the")
        elif kind < 0.85:
            await self._send(session, "popular", "GET", "/v1/popular?top_k=20")
        elif kind < 0.9:
            await self._send(session, "item", "GET", f"/v1/items/{item}")
        elif kind < 0.95:
            await self._send(session, "similar items", "GET", f"/v1/items/{item}/similar?top_k=20")
        else:
            await self._send(session, "invalid request", "POST", recommendations, {"user_id": "", "top_k": -1})

    def _recommendation(self) -> dict[str, Any]:
        """For a visitor whom the services have never seen, one in ten times."""
        if self._chance.random() < 0.1:
            session_items = self._chance.choices(self._items, k=self._chance.randint(0, 5))
            return {"user_id": f"visitor-{self._chance.getrandbits(64):x}", "session_items": session_items}
        excluded = self._chance.choices(self._items, k=self._chance.randint(0, 5))
        return {"user_id": self._user(), "exclude_items": excluded, "top_k": 20}

    def _user(self) -> str:
        if self.counts.arrived and self._chance.random() < 0.1:
            return f"idle-{self._chance.randrange(self.counts.arrived)}"
        return f"active-{self._active_user()}"

    async def _send(
        self, session: aiohttp.ClientSession, kind: str, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        headers = BATCH_DEADLINE if kind == BATCH else {}
        started = time.perf_counter()
        content: Any
        try:
            async with session.request(method, path, json=body, headers=headers) as response:
                status, content = response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            status, content = NO_RESPONSE, repr(error)
        self.counts.statuses[status] += 1
        if status in (EVENTS_REFUSED if kind in (BATCH, SINGLE_EVENT) else REFUSED):
            self.counts.refused[f"{kind}: {status}"] += 1
        elif status != (INVALID if kind == "invalid request" else OK):
            self.counts.unexpected[f"{kind}: {status or content}"] += 1
        if status == OK and kind in ("recommendation", "ranking"):
            self.counts.milliseconds.append((time.perf_counter() - started) * 1000)
            self._count_tier(content["tier"], content["tier_reason"])
        return status, content

    def _count_tier(self, tier: str, reason: str) -> None:
        self.counts.tiers[tier] += 1
        if reason not in EXPECTED_REASONS:
            self.counts.lowered[f"{tier}, {reason}"] += 1
            if self._is_promoting():
                self.counts.lowered_in_promotions[f"{tier}, {reason}"] += 1


async def _all(clients: Iterator[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client)
