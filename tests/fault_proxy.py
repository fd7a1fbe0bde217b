"""What stands between two processes of a test: it passes bytes on, or behaves like a sick network or a sick server.

Of what is well kept, Toxiproxy comes closest; it is a server that neither PyPI nor Debian carries, and it has no toxic
that answers garbage.
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
"""SO_LINGER for no seconds: a closed connection is reset."""


@dataclass(frozen=True)
class Behaviour:
    delay_seconds: float = 0.0
    """Before each answer."""
    resets: bool = False
    """Whether a connection is reset as soon as something is asked over it."""
    garbage: tuple[bytes, ...] = ()
    """What is answered in turn, instead of asking anybody."""


PASSING = Behaviour()


@dataclass
class Line:
    """One connection through the cable."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    asked: bool = False
    """Whether something was asked that is not answered yet."""

    def hang_up(self, *, reset: bool = False) -> None:
        for end in (self.near, self.far):
            if reset:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.transport.abort()


class FaultProxy:
    """A port that stands for the first of `targets` that accepts; a cut cable is a server that is away."""

    def __init__(self, *targets: int) -> None:
        self.targets = list(targets)
        self.behaviour = PASSING
        with socket.create_server((HOST, 0)) as free:
            self.port: int = free.getsockname()[1]
        self._garbage: Iterator[bytes] = cycle([b""])
        self._lines: list[Line] = []
        self._plugged: asyncio.Server | None = None
        self.plug_in()

    def plug_in(self) -> None:
        _run(self._listen())

    def cut(self) -> None:
        _run(self._hang_up())

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.plug_in()

    def behave(self, behaviour: Behaviour) -> None:
        """From now on, on the connections that are there too."""
        self._garbage = cycle(behaviour.garbage)
        self.behaviour = behaviour

    async def _listen(self) -> None:
        self._plugged = await asyncio.start_server(self._connect, HOST, self.port)

    async def _hang_up(self) -> None:
        if self._plugged is not None:
            self._plugged.close()
        for line in self._lines:
            line.hang_up()
        self._plugged = None

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        for port in list(self.targets):
            with suppress(OSError):
                answers, far = await asyncio.open_connection(HOST, port)
                break
        else:
            near.transport.abort()  # the servers behind are not up
            return
        line = Line(near, far)
        self._lines.append(line)
        try:
            await asyncio.gather(self._pass_questions(reader, line), self._pass_answers(answers, line))
        finally:
            line.hang_up()
            self._lines.remove(line)

    async def _pass_questions(self, questions: asyncio.StreamReader, line: Line) -> None:
        with suppress(OSError):
            while received := await questions.read(CHUNK):
                if self.behaviour.resets:
                    line.hang_up(reset=True)
                elif self.behaviour.garbage:
                    line.near.write(next(self._garbage))
                else:
                    line.asked = True
                    line.far.write(received)
                    await line.far.drain()
            line.far.write_eof()

    async def _pass_answers(self, answers: asyncio.StreamReader, line: Line) -> None:
        with suppress(OSError):
            while received := await answers.read(CHUNK):
                if line.asked:
                    line.asked = False
                    await asyncio.sleep(self.behaviour.delay_seconds)
                line.near.write(received)
                await line.near.drain()
            line.near.close()


def _run(work: Coroutine[None, None, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """All cables of a test run lie in one thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cables", daemon=True).start()
    return loop
