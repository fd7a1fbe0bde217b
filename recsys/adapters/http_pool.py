"""A pool of HTTP/1.1 connections to one server, for the calls that every recommendation waits for.

General clients spend their time on what calls between services do not need: redirects, cookies, compression, streams.
aiohttp took 0.2 ms of CPU per call and httpx several times that, of 2 ms for a whole recommendation; this takes 0.04.
Messages are parsed by httptools, as uvicorn does. `tests/contract/test_http_pool.py` has the cases that a general
client would cover.
"""

import asyncio
import ssl
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

Headers = Iterable[tuple[str, str]]
Response = tuple[int, bytearray]
"""Status and body."""

CONNECT_SECONDS = 0.5
MAX_CONNECTIONS = 256
KEEP_ALIVE_SECONDS = 4.0
"""Below the 5 s after which servers close idle connections, so that no request is sent on a closing one."""
DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpPool:
    """Create it inside a running event loop, and close it after use."""

    def __init__(self, base_url: str, headers: Headers = ()) -> None:
        """`headers` are sent with every request. Raises `ValueError` for an invalid URL."""
        url = urlsplit(base_url)
        if url.hostname is None or url.scheme not in DEFAULT_PORTS:
            raise ValueError(f"expected a URL like http://host:port; got {base_url!r}")
        self._host = url.hostname
        self._port = url.port or DEFAULT_PORTS[url.scheme]
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._prefix = url.path.rstrip("/")
        self._head = _lines([("host", url.netloc.rpartition("@")[2]), *headers])
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._closed = False

    async def request(self, method: str, path: str, body: bytes | None = None, headers: Headers = ()) -> Response:
        """`path` starts with a slash and is percent-encoded; `body` is JSON. Without timeout: callers have a deadline.

        Raises `OSError` if the server cannot be reached, closes the connection, or does not speak HTTP; `TimeoutError`,
        which is one, if it does not accept a connection in time. A request that loses its connection is sent once more,
        so it must be idempotent.
        """
        of_body = "" if body is None else f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}{_lines(headers)}{of_body}\r\n"
        message = head.encode("latin-1") + (body or b"")
        async with self._slots:
            try:
                return await self._exchange(self._take_idle() or await self._connect(), message)
            except ConnectionError:
                return await self._exchange(await self._connect(), message)

    async def close(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _exchange(self, connection: "_Connection", message: bytes) -> Response:
        try:
            response = await connection.exchange(message)
        except BaseException:  # also if the caller was cancelled: the response may still arrive
            connection.close()
            raise
        if connection.reusable and not self._closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _take_idle(self) -> "_Connection | None":
        """The connection that was used last, so that the others can time out."""
        oldest = time.monotonic() - KEEP_ALIVE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return connection


class _Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    def __init__(self) -> None:
        self.reusable = True
        self.idle_since = 0.0
        self._parser = HttpResponseParser(self)
        self._body = bytearray()
        self._response: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport

    async def exchange(self, message: bytes) -> Response:
        self._body = bytearray()
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._response

    def close(self) -> None:
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionResetError("the server closed the connection"), error)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(ConnectionAbortedError("the server did not answer with HTTP/1.1"), error)
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        if self._response is not None and not self._response.done():
            self._response.set_result((self._parser.get_status_code(), self._body))

    def _fail(self, failure: ConnectionError, cause: Exception | None) -> None:
        self.reusable = False
        if self._response is not None and not self._response.done():
            failure.__cause__ = cause
            self._response.set_exception(failure)


def _lines(headers: Headers) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)
