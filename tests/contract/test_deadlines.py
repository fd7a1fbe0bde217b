"""How the deadline of a request is propagated to upstream services."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local.settings import HOST
from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker
from recsys.adapters.http_pool import HttpPool
from recsys.breaker import FAILING_SECONDS, FAILURES
from recsys.contracts.recall import Retrieval
from recsys.deadline import RESERVE_SECONDS, Deadline
from recsys.errors import UpstreamError, UpstreamOverloaded, UpstreamSuspended, UpstreamTimeout, UpstreamUnavailable
from tests.contract.test_error_translation import error_answer, saying, server, silent

SECONDS = 0.2


class Listener:
    """A server that records request headers and never responds."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            writer.close()

        listening = await asyncio.start_server(connected, HOST, 0)
        async with listening:
            yield f"http://{HOST}:{listening.sockets[0].getsockname()[1]}"

    @property
    def deadlines_ms(self) -> list[int]:
        return [int(found) for head in self.heads for found in re.findall(r"x-deadline-ms: (\d+)\r", head)]


async def test_an_upstream_gets_the_remaining_time_less_a_reserve() -> None:
    listener = Listener()
    async with listener.opened() as url, HttpPool(url) as pool:
        with Deadline(10.0).activate(), pytest.raises(UpstreamError):
            await HttpRanker(pool).encode(["a"])
    assert len(listener.deadlines_ms) == 2  # the call is repeated, with less time
    most = (10.0 - RESERVE_SECONDS) * 1000
    assert most >= listener.deadlines_ms[0] >= listener.deadlines_ms[1] > 5000


async def test_without_a_deadline_no_header_is_sent() -> None:
    listener = Listener()
    async with listener.opened() as url, HttpPool(url) as pool:
        with pytest.raises(UpstreamError):
            await HttpFeatureStore(pool).popular(3)
    assert listener.heads
    assert listener.deadlines_ms == []


async def test_a_call_ends_at_the_deadline_not_at_its_own_timeout() -> None:
    async with server(silent) as url, HttpPool(url) as pool:
        deadline = Deadline(SECONDS)
        with deadline.activate(), pytest.raises(UpstreamTimeout):
            await HttpFeatureStore(pool).user_features("u")
    assert deadline.elapsed() < SECONDS * 5


async def test_calls_to_an_unresponsive_service_are_suspended() -> None:
    async with server(silent) as url, HttpPool(url) as pool:
        ranker = HttpRanker(pool)
        for _ in range(FAILURES):
            with Deadline(SECONDS / 2).activate(), pytest.raises(UpstreamTimeout):
                await ranker.releases()
        with pytest.raises(UpstreamSuspended):
            await ranker.releases()


async def test_background_calls_do_not_open_the_breaker() -> None:
    async with server(saying(error_answer("503 Busy", "upstream_unavailable"))) as url, HttpPool(url) as pool:
        ranker = HttpRanker(pool)
        for _ in range(2 * FAILURES):
            with pytest.raises(UpstreamUnavailable):
                await ranker.recall(Retrieval(1, "w", [1.0], 10, (), []))
            await asyncio.sleep(FAILING_SECONDS / FAILURES)
        with pytest.raises(UpstreamUnavailable):
            await ranker.releases()


async def test_an_overloaded_upstream_is_not_an_overload_of_this_service() -> None:
    async with server(saying(error_answer("429 Too Many Requests", "overloaded"))) as url, HttpPool(url) as pool:
        for _ in range(2 * FAILURES):
            with pytest.raises(UpstreamOverloaded):
                await HttpRanker(pool).releases()
