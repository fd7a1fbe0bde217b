"""Calls go to replicas of the ranker that have the release, whatever happens to the others."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from recsys.adapters import ranker_pool
from recsys.adapters.ranker_pool import GONE_AFTER, RankerPool
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.retrieval import QueryEmbedding, ServingReleases
from recsys.errors import (
    ReleaseNotLoaded,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)

NAMED = "http://rankers:8000"
A, B, C = (f"http://10.0.0.{number}:8000" for number in (1, 2, 3))


def reply(champion: int | None, *loaded: int, weights: str = "w") -> ServingReleases:
    return ServingReleases(
        champion=champion, loaded=list(loaded), weights_hashes={version: f"{weights}{version}" for version in loaded}
    )


class FakeRanker:
    """One replica."""

    def __init__(self) -> None:
        self.reported = reply(1, 1)
        self.broken: UpstreamError | None = None
        self.suspended = False
        self.closed = False
        self.answered = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def releases(self) -> ServingReleases:
        if self.broken:
            raise self.broken
        return self.reported

    async def encode(
        self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
    ) -> QueryEmbedding:
        weights_hash = await self._answer(release_version)
        return QueryEmbedding(
            release_version=release_version or self.reported.champion, weights_hash=weights_hash, query_embedding=[1.0]
        )

    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        weights_hash = await self._answer(release_version)
        return RankedScores(release_version=release_version, weights_hash=weights_hash, personalized=True, scores=[1.0])

    async def item_lines(self, release_version: int | None) -> bytes:
        return (await self._answer(release_version)).encode()

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        await self._answer(retrieval.release_version)
        return RecallMeasurement(num_nearest=1, num_found=1)

    async def close(self) -> None:
        self.closed = True

    async def _answer(self, release_version: int | None) -> str:
        await self.may_answer.wait()
        if self.broken:
            raise self.broken
        version = release_version or self.reported.champion
        if version not in self.reported.loaded:
            raise ReleaseNotLoaded(f"release {version} is not loaded")
        self.answered += 1
        return self.reported.weights_hashes[version]


class Cluster:
    """The replicas behind one name, and a pool of them."""

    def __init__(self, *urls: str) -> None:
        self.resolved: list[str] | None = list(urls)
        self.rankers: dict[str, FakeRanker] = {url: FakeRanker() for url in urls}
        self.pool = RankerPool(NAMED, self._connect)

    def __getitem__(self, url: str) -> FakeRanker:
        return self.rankers[url]

    async def resolve(self, _: str) -> list[str]:
        if self.resolved is None:
            raise UpstreamUnavailable("the name 'rankers' does not resolve to an address")
        return self.resolved

    async def answered_by(self, release_version: int | None, calls: int = 1) -> dict[str, int]:
        """How many of these calls each replica answered, without those that answered none."""
        before = {url: ranker.answered for url, ranker in self.rankers.items()}
        await asyncio.gather(*(self.pool.encode(["a"], release_version) for _ in range(calls)))
        return {url: n for url, ranker in self.rankers.items() if (n := ranker.answered - before[url])}

    def _connect(self, url: str) -> FakeRanker:
        self.rankers.setdefault(url, FakeRanker())
        return self.rankers[url]


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(A, B, C)
    monkeypatch.setattr(ranker_pool, "replica_urls", cluster.resolve)
    await cluster.pool.releases()
    return cluster


def replicas(state: str) -> float | None:
    return REGISTRY.get_sample_value("tandem_ranker_replicas", {"state": state})


async def test_calls_are_spread_over_all_replicas(cluster: Cluster) -> None:
    assert await cluster.answered_by(1, 6) == {A: 2, B: 2, C: 2}


async def test_one_call_after_the_other_takes_turns(cluster: Cluster) -> None:
    assert [list(await cluster.answered_by(1)) for _ in range(4)] == [[A], [B], [C], [A]]


async def test_the_replica_with_the_fewest_calls_in_flight_is_chosen(cluster: Cluster) -> None:
    cluster[A].may_answer.clear()
    slow = [asyncio.create_task(cluster.pool.encode(["a"], 1)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await cluster.answered_by(1, 1) in ({B: 1}, {C: 1})
    assert A not in await cluster.answered_by(1, 1)
    cluster[A].may_answer.set()
    await asyncio.gather(*slow)


async def test_a_request_goes_only_to_replicas_that_said_they_have_the_release(cluster: Cluster) -> None:
    cluster[B].reported = reply(1, 1, 2)
    await cluster.pool.releases()
    assert await cluster.answered_by(2, 3) == {B: 3}
    assert (await cluster.pool.rank(["a"], ["b"], 2)).release_version == 2
    assert await cluster.pool.item_lines(2) == b"w2"
    with pytest.raises(ReleaseNotLoaded, match="release 3 is not loaded"):
        await cluster.pool.encode(["a"], 3)


async def test_without_a_version_any_replica_with_a_champion_answers(cluster: Cluster) -> None:
    cluster[A].reported = reply(None)
    cluster[B].reported = reply(None, 1)
    await cluster.pool.releases()
    assert await cluster.answered_by(None, 3) == {C: 3}


async def test_an_empty_replica_gets_no_call_and_does_not_change_what_is_served(cluster: Cluster) -> None:
    cluster[A].reported = reply(None)
    serving = await cluster.pool.releases()
    assert (serving.champion, serving.problems) == (1, ["1 of 3 rankers have no champion"])
    assert (replicas("serving"), replicas("empty"), replicas("silent")) == (2, 1, 0)
    assert await cluster.answered_by(1, 4) == {B: 2, C: 2}
    cluster[A].reported = reply(1, 1)
    assert (await cluster.pool.releases()).problems == []
    assert A in await cluster.answered_by(1, 3)


async def test_a_replica_with_other_weights_of_the_same_version_gets_no_call(cluster: Cluster) -> None:
    cluster[C].reported = reply(1, 1, weights="other")
    await cluster.pool.releases()
    assert await cluster.answered_by(1, 4) == {A: 2, B: 2}


async def test_a_replica_that_refuses_connections_costs_no_answer(cluster: Cluster) -> None:
    cluster[A].broken = UpstreamUnavailable("ranker cannot be reached")
    assert await cluster.answered_by(1, 3) in ({B: 2, C: 1}, {B: 1, C: 2})
    assert await cluster.answered_by(1, 2) == {B: 1, C: 1}


async def test_a_release_that_was_unloaded_meanwhile_is_asked_of_another(cluster: Cluster) -> None:
    for url in (A, B):
        cluster[url].reported = reply(2, 1, 2)
    await cluster.pool.releases()
    cluster[A].reported = reply(2, 2)
    assert await cluster.answered_by(1, 2) == {C: 1, B: 1}


@pytest.mark.parametrize("error", [UpstreamTimeout("late"), UpstreamOverloaded("busy")])
async def test_timeouts_and_overload_are_not_sent_on(
    cluster: Cluster, error: UpstreamOverloaded | UpstreamTimeout
) -> None:
    cluster[A].broken = error
    with pytest.raises(type(error)):
        await cluster.pool.encode(["a"], 1)
    assert cluster[B].answered + cluster[C].answered == 0


async def test_only_one_other_replica_is_tried(cluster: Cluster) -> None:
    for url in (A, B):
        cluster[url].broken = UpstreamUnavailable("ranker cannot be reached")
    with pytest.raises(UpstreamUnavailable):
        await cluster.pool.encode(["a"], 1)
    assert await cluster.answered_by(1) == {C: 1}


async def test_suspended_replicas_come_last(cluster: Cluster) -> None:
    cluster[A].suspended = cluster[B].suspended = True
    assert await cluster.answered_by(1, 3) == {C: 3}


async def test_replicas_that_do_not_answer_are_called_if_there_is_no_other(cluster: Cluster) -> None:
    for url in (A, B, C):
        cluster[url].broken = UpstreamUnavailable("ranker cannot be reached")
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await cluster.pool.releases()
    assert replicas("silent") == 3
    cluster[B].broken = None
    answers = await asyncio.gather(*(cluster.pool.encode(["a"], 1) for _ in range(3)), return_exceptions=True)
    assert any(isinstance(answer, QueryEmbedding) for answer in answers)


async def test_a_replica_that_is_silent_for_long_does_not_delay_the_next_champion(cluster: Cluster) -> None:
    cluster[C].broken = UpstreamUnavailable("ranker cannot be reached")
    for url in (A, B):
        cluster[url].reported = reply(2, 1, 2)
    champions = [(await cluster.pool.releases()).champion for _ in range(GONE_AFTER)]
    assert champions == [1] * (GONE_AFTER - 1) + [2]
    assert (await cluster.pool.releases()).problems == ["1 of 3 rankers do not answer"]


async def test_a_busy_replica_is_not_silent(cluster: Cluster) -> None:
    for url in (A, B, C):
        cluster[url].broken = UpstreamOverloaded("busy")
    serving = await cluster.pool.releases()
    assert (serving.champion, serving.problems) == (1, [])


async def test_replicas_come_and_go_with_their_addresses(cluster: Cluster) -> None:
    cluster.resolved = [B, "http://10.0.0.4:8000"]
    await cluster.pool.releases()
    assert await cluster.answered_by(1, 2) == {B: 1, "http://10.0.0.4:8000": 1}
    assert cluster[A].closed
    assert not cluster[B].closed


async def test_a_replica_that_goes_answers_its_last_calls(cluster: Cluster) -> None:
    cluster[A].may_answer.clear()
    last = asyncio.create_task(cluster.pool.encode(["a"], 1))
    await asyncio.sleep(0)
    cluster.resolved = [B, C]
    await cluster.pool.releases()
    assert not cluster[A].closed
    cluster[A].may_answer.set()
    await last
    await cluster.pool.releases()
    assert cluster[A].closed


async def test_while_the_name_does_not_resolve_its_replicas_stay(cluster: Cluster) -> None:
    cluster.resolved = None
    assert (await cluster.pool.releases()).champion == 1
    assert len(await cluster.answered_by(1, 3)) == 3


async def test_before_any_replica_is_known_the_ranker_cannot_be_reached(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Cluster()
    monkeypatch.setattr(ranker_pool, "replica_urls", fresh.resolve)
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await fresh.pool.encode(["a"])
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await fresh.pool.releases()


async def test_before_the_first_champion_there_is_none(cluster: Cluster) -> None:
    for url in (A, B, C):
        cluster[url].reported = reply(None)
    fresh = await cluster.pool.releases()
    assert fresh.champion is None
    with pytest.raises(ReleaseNotLoaded):
        await cluster.pool.encode(["a"])


async def test_closing_closes_every_connection(cluster: Cluster) -> None:
    await cluster.pool.close()
    assert all(ranker.closed for ranker in cluster.rankers.values())
