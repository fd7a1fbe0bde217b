"""A TCP proxy between two processes of a test: it forwards bytes, or behaves like a faulty network or server.

Toxiproxy is the closest maintained tool. It is a server that neither PyPI nor Debian packages, and it has no toxic that
responds with garbage.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle

from local.settings import HOST

CHUNK = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing the connection resets it."""


@dataclass(frozen=True)
class Behaviour:
    delay_seconds: float = 0.0
    """Before each response."""
    resets: bool = False
    """Whether a connection is reset as soon as a request arrives on it."""
    garbage: tuple[bytes, ...] = ()
    """Sent in turn instead of forwarding the request."""


FORWARDING = Behaviour()


@dataclass
class Connection:
    """One client connection and its connection to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    awaits_response: bool = False

    def abort(self, *, reset: bool = False) -> None:
        for end in (self.client, self.server):
            if reset:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.transport.abort()


class FaultProxy:
    """A port that forwards to the first of `targets` that accepts. While closed, it refuses connections."""

    def __init__(self, *targets: int) -> None:
        self.targets = list(targets)
        self.behaviour = FORWARDING
        with socket.create_server((HOST, 0)) as free:
            self.port: int = free.getsockname()[1]
        self._garbage: Iterator[bytes] = cycle([b""])
        self._connections: list[Connection] = []
        self._server: asyncio.Server | None = None
        self.open()

    def open(self) -> None:
        _run(self._listen())

    def close(self) -> None:
        _run(self._stop_listening())

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self.open()

    def behave(self, behaviour: Behaviour) -> None:
        """Change the behaviour, on open connections too."""
        self._garbage = cycle(behaviour.garbage)
        self.behaviour = behaviour

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.abort()
        self._server = None

    async def _accept(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        for port in list(self.targets):
            with suppress(OSError):
                from_server, server = await asyncio.open_connection(HOST, port)
                break
        else:
            client.transport.abort()  # no target accepts
            return
        connection = Connection(client, server)
        self._connections.append(connection)
        try:
            await asyncio.gather(
                self._forward_requests(from_client, connection), self._forward_responses(from_server, connection)
            )
        finally:
            connection.abort()
            self._connections.remove(connection)

    async def _forward_requests(self, requests: asyncio.StreamReader, connection: Connection) -> None:
        with _ending_both(connection):
            while received := await requests.read(CHUNK):
                if self.behaviour.resets:
                    connection.abort(reset=True)
                elif self.behaviour.garbage:
                    connection.client.write(next(self._garbage))
                else:
                    connection.awaits_response = True
                    connection.server.write(received)
                    await connection.server.drain()
            connection.server.write_eof()

    async def _forward_responses(self, responses: asyncio.StreamReader, connection: Connection) -> None:
        with _ending_both(connection):
            while received := await responses.read(CHUNK):
                if connection.awaits_response:
                    connection.awaits_response = False
                    await asyncio.sleep(self.behaviour.delay_seconds)
                connection.client.write(received)
                await connection.client.drain()
            connection.client.close()


@contextmanager
def _ending_both(connection: Connection) -> Iterator[None]:
    """If one end is reset, close the other one too; otherwise it would wait for ever."""
    try:
        yield
    except OSError:
        connection.abort()


def _run(work: Coroutine[None, None, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all proxies, in one thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fault proxies", daemon=True).start()
    return loop
