"""An open loop: requests start at a fixed rate, whether or not earlier ones have been answered."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from tests.faults.expected import Answered, Question, questions

PER_SECOND = 50
LONGEST_SECONDS = 10


class Load:
    """Requests recommendations in a separate thread until the block ends."""

    def __init__(self, url: str, *, keep_connections: bool = True, deadline_ms: int | None = None) -> None:
        """`deadline_ms` replaces the orchestrator's default."""
        self._url = url
        self._headers = {} if deadline_ms is None else {"x-deadline-ms": str(deadline_ms)}
        self._keep_connections = keep_connections
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self.answers: list[Answered] = []
        """In order of arrival."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until every request that was started has been answered or has failed."""
        self._ends.set()
        self._thread.join()

    def wait_until(self, holds: Callable[[list[Answered]], bool], seconds: float) -> bool:
        """Whether the condition held in time. The load continues meanwhile."""
        give_up = time.perf_counter() + seconds
        while not holds(self.answers):
            if time.perf_counter() > give_up:
                return False
            time.sleep(0.02)
        return True

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._keep_connections)
        timeout = aiohttp.ClientTimeout(total=LONGEST_SECONDS)
        async with aiohttp.ClientSession(
            self._url, connector=connector, timeout=timeout, headers=self._headers
        ) as session:
            pending: set[asyncio.Task[None]] = set()
            started = time.perf_counter()
            for number, question in enumerate(questions()):
                if self._ends.is_set():
                    break
                await asyncio.sleep(started + number / PER_SECOND - time.perf_counter())
                task = asyncio.create_task(self._ask(session, question))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

    async def _ask(self, session: aiohttp.ClientSession, question: Question) -> None:
        answered = Answered(question, sent=time.perf_counter())
        try:
            async with session.post("/v1/recommendations", json=question.body) as response:
                answered.text = await response.text()
                answered.status = response.status
                retry_after = response.headers.get("retry-after")
        except (aiohttp.ClientError, TimeoutError) as error:
            answered.received = time.perf_counter()
            answered.problems.append(f"no response: {error!r}")
        else:
            answered.received = time.perf_counter()
            answered.validate(retry_after)
        self.answers.append(answered)
