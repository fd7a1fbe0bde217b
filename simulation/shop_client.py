"""The public API, as the pages of the shop call it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from recsys.errors import JobError

CONNECTIONS = 8
"""Calls at the same time."""
ATTEMPTS = 10
PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 120
"""With the time that a call waits for a connection."""
BUSY = (429, 503, 504)


class ShownPage(NamedTuple):
    recommendation_id: str
    item_ids: list[str]
    release: int | None
    variant: str
    tier: str


class ShopClient:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def recommendations(self, user_id: str, count: int, variant: str | None) -> ShownPage:
        headers = {"X-Variant": variant} if variant else {}
        body = {"user_id": user_id, "top_k": count}
        given = await self._call("POST", "/v1/recommendations", json=body, headers=headers)
        return ShownPage(
            given["recommendation_id"],
            [each["item_id"] for each in given["recommendations"]],
            given["release"],
            given["variant"],
            given["tier"],
        )

    async def popular(self, count: int) -> list[str]:
        given = await self._call("GET", f"/v1/popular?top_k={count}")
        return [each["item_id"] for each in given["recommendations"]]

    async def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Until they are acknowledged. An event that was recorded by a call that failed counts once."""
        await self._call("POST", "/v1/events", json=list(events))

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        """Raises JobError if the API refuses the call, or if it is busy for too long."""
        for _ in range(ATTEMPTS):
            try:
                async with self._session.request(method, path, **request) as response:
                    if response.status not in BUSY:
                        if response.status != 200:
                            raise JobError(f"{method} {path} answered {response.status}: {await response.text()}")
                        return await response.json()
                    problem = f"answered {response.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"failed with {type(error).__name__}"
            await asyncio.sleep(PAUSE_SECONDS)
        raise JobError(f"{method} {path} {problem} {ATTEMPTS} times")


@asynccontextmanager
async def shop_client(url: str) -> AsyncIterator[ShopClient]:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        yield ShopClient(session)
