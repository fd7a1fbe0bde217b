"""An open loop: a request starts on its tick, whether or not the ones before have been answered."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from tests.faults.expected import Answered, Asked, questions

PER_SECOND = 50
LONGEST_SECONDS = 10


class Load:
    """Asks for recommendations for as long as the block lasts, in a thread of its own."""

    def __init__(self, url: str, *, keep_connections: bool = True) -> None:
        self._url = url
        self._keep_connections = keep_connections
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self.answers: list[Answered] = []
        """In the order in which they came."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every request that was begun is answered or has failed when this returns."""
        self._ends.set()
        self._thread.join()

    def wait_until(self, holds: Callable[[list[Answered]], bool], seconds: float) -> bool:
        """Whether it came true in time, while the load goes on."""
        give_up = time.perf_counter() + seconds
        while not holds(self.answers):
            if time.perf_counter() > give_up:
                return False
            time.sleep(0.02)
        return True

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._keep_connections)
        timeout = aiohttp.ClientTimeout(total=LONGEST_SECONDS)
        async with aiohttp.ClientSession(self._url, connector=connector, timeout=timeout) as session:
            asking: set[asyncio.Task[None]] = set()
            started = time.perf_counter()
            for number, asked in enumerate(questions()):
                if self._ends.is_set():
                    break
                await asyncio.sleep(started + number / PER_SECOND - time.perf_counter())
                task = asyncio.create_task(self._ask(session, asked))
                asking.add(task)
                task.add_done_callback(asking.discard)
            await asyncio.gather(*asking)

    async def _ask(self, session: aiohttp.ClientSession, asked: Asked) -> None:
        answered = Answered(asked, sent=time.perf_counter())
        try:
            async with session.post("/v1/recommendations", json=asked.body) as response:
                answered.text = await response.text()
                answered.status = response.status
                retry_after = response.headers.get("retry-after")
        except (aiohttp.ClientError, TimeoutError) as error:
            answered.received = time.perf_counter()
            answered.problems.append(f"lost: {error!r}")
        else:
            answered.received = time.perf_counter()
            answered.judge(retry_after)
        self.answers.append(answered)
