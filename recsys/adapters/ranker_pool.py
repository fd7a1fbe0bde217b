"""The ports of the ranker, over all of its replicas: each call goes to a replica that has the release loaded."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Protocol, TypeVar

import structlog
from prometheus_client import Gauge

from recsys.adapters.replica_agreement import agreed_releases
from recsys.adapters.replicas import replica_urls, split_urls
from recsys.adapters.upstream import RANKER
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.retrieval import QueryEmbedding, ServingReleases
from recsys.deadline import Deadline
from recsys.errors import (
    ReleaseNotLoaded,
    TandemError,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from recsys.ports import QueryEncoder, Ranker, RecallReference, ReleaseSource

ASK_SECONDS = 1.0
"""The longest that a replica may take to say which releases it has loaded."""
GONE_AFTER = 3
"""A replica that did not answer this many times in a row no longer has a vote on which releases are served."""
SERVING, EMPTY, SILENT = "serving", "empty", "silent"

REPLICAS = Gauge(
    "tandem_ranker_replicas", "Replicas of the ranker: serving, empty (without a champion) or silent.", ["state"]
)

T = TypeVar("T")

log = structlog.get_logger()


class RankerClient(QueryEncoder, Ranker, RecallReference, ReleaseSource, Protocol):
    """A client of one replica."""

    @property
    def suspended(self) -> bool:
        """Whether calls fail at once, because many failed before."""

    async def close(self) -> None:
        """Close the connections."""


class Replica:
    def __init__(self, url: str, client: RankerClient) -> None:
        self.url = url
        self.client = client
        self.reported: ServingReleases | None = None
        """What it last said it has loaded; None until its first answer."""
        self.silent = 0
        """How many times in a row it did not answer."""
        self.error: TandemError | None = None
        """Why it did not answer."""
        self.calls = 0
        """Calls in flight."""
        self.last_call = 0
        """The number of its last call. The replica with the lowest number waited longest."""

    @property
    def state(self) -> str:
        if self.reported is None or self.silent:
            return SILENT
        return EMPTY if self.reported.champion is None else SERVING

    @property
    def preference(self) -> tuple[bool, int, int]:
        """Ascending: replicas that answer, with the fewest calls in flight, in turn."""
        return self.state == SILENT or self.client.suspended, self.calls, self.last_call

    async def ask(self) -> None:
        try:
            self.reported = await self.client.releases()
        except UpstreamOverloaded:
            self._answered()
        except TandemError as error:
            if not self.silent:
                log.warning("replica_silent", url=self.url, problem=str(error), cause=repr(error.__cause__))
            self.error = error
            self.silent += 1
        else:
            self._answered()

    def _answered(self) -> None:
        self.silent, self.error = 0, None

    def has(self, release_version: int, weights_hash: str | None) -> bool:
        """Whether it said it has the release, with these weights or, for None, with any."""
        reported = self.reported
        return (
            reported is not None
            and release_version in reported.loaded
            and weights_hash in (None, reported.weights_hashes.get(release_version))
        )


class RankerPool:
    """The ports QueryEncoder, Ranker, RecallReference and ReleaseSource.

    `releases` finds the replicas and asks each which releases it has loaded; call it at intervals. The other calls use
    its answers. A call that one replica refuses, or cannot answer, is sent to one other: all calls are idempotent.
    Timeouts and overload are not: there is no time for another call, or it would add to the load.
    """

    def __init__(self, urls: str, connect: Callable[[str], RankerClient]) -> None:
        """`urls` as in `replica_urls`. `connect` opens a client of the replica at a URL."""
        self._addresses: dict[str, list[str]] = {url: [] for url in split_urls(urls)}
        """By entry of `urls`: the replicas that it was last resolved to."""
        self._unresolved: set[str] = set()
        self._connect = connect
        self._replicas: dict[str, Replica] = {}
        self._leaving: list[Replica] = []
        """Replicas that the names no longer resolve to, with calls in flight. A call ends within its time limit."""
        self._agreed: ServingReleases | None = None
        self._numbers = count(1)

    async def releases(self) -> ServingReleases:
        """Find the replicas, and ask them. Raises the error of a replica if none of them answers."""
        await self._find_replicas()
        replicas = list(self._replicas.values())
        with Deadline(ASK_SECONDS).activate():
            await asyncio.gather(*(replica.ask() for replica in replicas))
        states = [replica.state for replica in replicas]
        for state in (SERVING, EMPTY, SILENT):
            REPLICAS.labels(state).set(states.count(state))
        if set(states) <= {SILENT}:
            raise next((replica.error for replica in replicas if replica.error), _unreachable())
        heard = [replica.reported for replica in replicas if replica.reported and replica.silent < GONE_AFTER]
        agreed = agreed_releases(heard, self._agreed)
        if agreed.champion is not None:
            self._agreed = agreed
        return agreed.model_copy(update={"problems": [*_missing(states), *agreed.problems]})

    async def item_lines(self, release_version: int) -> bytes | bytearray:
        return await self._call(release_version, lambda ranker: ranker.item_lines(release_version))

    async def encode(
        self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
    ) -> QueryEmbedding:
        return await self._call(
            release_version, lambda ranker: ranker.encode(recent_items, release_version, unseen_items)
        )

    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        return await self._call(
            release_version, lambda ranker: ranker.rank(recent_items, candidate_items, release_version, disliked_items)
        )

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        return await self._call(retrieval.release_version, lambda ranker: ranker.recall(retrieval))

    async def close(self) -> None:
        for replica in (*self._replicas.values(), *self._leaving):
            await replica.client.close()

    async def _find_replicas(self) -> None:
        """Connect to new replicas. While a name does not resolve, its replicas stay."""
        for entry in self._addresses:
            try:
                self._addresses[entry] = await replica_urls(entry)
                self._unresolved.discard(entry)
            except UpstreamUnavailable as error:
                if entry not in self._unresolved:
                    log.warning("name_not_resolved", problem=str(error), cause=repr(error.__cause__))
                self._unresolved.add(entry)
        found = dict.fromkeys(url for urls in self._addresses.values() for url in urls)
        for url in [url for url in found if url not in self._replicas]:
            self._replicas[url] = Replica(url, self._connect(url))
            log.info("replica_found", url=url)
        for url in [url for url in self._replicas if url not in found]:
            self._leaving.append(self._replicas.pop(url))
            log.info("replica_gone", url=url)
        for replica in [replica for replica in self._leaving if not replica.calls]:
            self._leaving.remove(replica)
            await replica.client.close()

    async def _call(self, release_version: int | None, send: Callable[[RankerClient], Awaitable[T]]) -> T:
        first, *others = self._with_release(release_version)
        try:
            return await self._call_replica(first, send)
        except (UpstreamTimeout, UpstreamOverloaded):
            raise
        except (UpstreamError, ReleaseNotLoaded) as error:
            if isinstance(error, UpstreamUnavailable):
                first.silent = max(1, first.silent)  # the others come first until it answers
            if not others:
                raise
        return await self._call_replica(others[0], send)

    async def _call_replica(self, replica: Replica, send: Callable[[RankerClient], Awaitable[T]]) -> T:
        replica.last_call = next(self._numbers)
        replica.calls += 1
        try:
            return await send(replica.client)
        finally:
            replica.calls -= 1

    def _with_release(self, release_version: int | None) -> list[Replica]:
        """The replicas that have the release loaded, or any champion for None. The best is first.

        Silent ones are last: perhaps they answer again. Raises `ReleaseNotLoaded` or `UpstreamUnavailable`.
        """
        answered = [replica for replica in self._replicas.values() if replica.reported is not None]
        if not answered:
            raise _unreachable()
        if release_version is None:
            having = [each for each in answered if each.reported and each.reported.champion is not None]
        else:
            weights_hash = self._agreed.weights_hashes.get(release_version) if self._agreed else None
            having = [replica for replica in answered if replica.has(release_version, weights_hash)]
        if not having:
            wanted = "a champion" if release_version is None else f"release {release_version}"
            raise ReleaseNotLoaded(f"{RANKER}: {wanted} is not loaded")
        return sorted(having, key=lambda replica: replica.preference)


def _missing(states: Sequence[str]) -> list[str]:
    """What makes the replicas fewer than they could be. If none has a champion, that is the caller's to say."""
    empty = states.count(EMPTY) if SERVING in states else 0
    counts = {"do not answer": states.count(SILENT), "have no champion": empty}
    return [f"{number} of {len(states)} rankers {what}" for what, number in counts.items() if number]


def _unreachable() -> UpstreamUnavailable:
    return UpstreamUnavailable(f"{RANKER} cannot be reached")
