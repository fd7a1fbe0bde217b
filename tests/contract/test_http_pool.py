"""The pool of HTTP connections: what a general client would be trusted with."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from local.settings import HOST
from recsys.adapters import http_pool
from recsys.adapters.http_pool import HttpPool
from tests.contract.stub_server import response, server
from tests.engines import free_ports

OK = response("200 OK", b"{}")


class Counting:
    """A server that keeps connections open, counts them, and answers every request with `answer(number)`."""

    def __init__(self, answer: Callable[[int], bytes] = lambda _: OK) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.delay = 0.0
        self._answer = answer

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await asyncio.sleep(self.delay)
                writer.write(self._answer(len(self.requests)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def pool_of(counting: Counting) -> AsyncIterator[HttpPool]:
    async with server(counting.connected) as url, HttpPool(f"{url}/prefix/", [("x-key", "k")]) as pool:
        yield pool


async def test_a_connection_is_used_again() -> None:
    counting = Counting()
    async with pool_of(counting) as pool:
        for _ in range(5):
            assert await pool.request("GET", "/a%2Fb", headers=[("x-deadline-ms", "7")]) == (200, b"{}")
    assert counting.connections == 1
    first = counting.requests[0].lower()
    assert first.startswith(b"get /prefix/a%2fb http/1.1\r\nhost: 127.0.0.1:")
    assert b"x-key: k\r\n" in first
    assert b"x-deadline-ms: 7\r\n" in first
    assert b"content-" not in first


async def test_requests_at_the_same_time_use_connections_of_their_own() -> None:
    counting = Counting()
    counting.delay = 0.05
    async with pool_of(counting) as pool:
        await asyncio.gather(*(pool.request("GET", "/") for _ in range(8)))
        assert counting.connections == 8
        await asyncio.gather(*(pool.request("GET", "/") for _ in range(8)))
        assert counting.connections == 8


async def test_more_requests_than_connections_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "MAX_CONNECTIONS", 2)
    counting = Counting()
    counting.delay = 0.01
    async with pool_of(counting) as pool:
        await asyncio.gather(*(pool.request("GET", "/") for _ in range(8)))
    assert counting.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "KEEP_ALIVE_SECONDS", 0.0)
    counting = Counting()
    async with pool_of(counting) as pool:
        await pool.request("GET", "/")
        await pool.request("GET", "/")
    assert counting.connections == 2


async def test_a_response_is_never_taken_for_that_of_a_later_request() -> None:
    counting = Counting(lambda number: response("200 OK", b"%d" % number))
    counting.delay = 0.1
    async with pool_of(counting) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.request("GET", "/")
        assert await pool.request("GET", "/") == (200, b"2")
    assert counting.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", b"{}", "connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        OK + b"unasked",
    ],
    ids=["closed by the server", "HTTP/1.0", "more than asked for"],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(answer: bytes) -> None:
    counting = Counting(lambda _: answer)
    async with pool_of(counting) as pool:
        for _ in range(2):
            assert await pool.request("GET", "/") == (200, b"{}")
            await asyncio.sleep(0.01)
    assert counting.connections == 2


async def test_a_body_may_come_in_chunks_of_any_size() -> None:
    body = bytes(range(256)) * 1000

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 7001):
            chunk = body[start : start + 7001]
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with server(connected) as url, HttpPool(url) as pool:
        assert await pool.request("GET", "/") == (200, body)


async def test_a_body_is_sent_with_its_length() -> None:
    received = b""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 100000\r\n" in head
        received = await reader.readexactly(100_000)
        writer.write(OK)
        await writer.drain()

    async with server(connected) as url, HttpPool(url) as pool:
        assert await pool.request("POST", "/", b"x" * 100_000) == (200, b"{}")
    assert received == b"x" * 100_000


async def test_a_closed_port_is_an_error_and_leaves_no_task() -> None:
    async with HttpPool(f"http://{HOST}:{free_ports(1)[0]}") as pool:
        with pytest.raises(OSError, match=r"refused|Connect"):
            await pool.request("GET", "/")
    gc.collect()  # an exception that nobody retrieved would be reported here
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("url", ["localhost:80", "ftp://localhost", "http://", "http:///path", "http://h:99999"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port"):
        HttpPool(url)
