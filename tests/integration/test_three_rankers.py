"""Three rankers, two orchestrators and ten promotions under load, while one ranker is killed and started again.

Every response is personalized, and its query, its candidates and its scores come from the weights of one release.
"""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from local.settings import LocalSettings
from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.contracts.retrieval import SearchSettings
from recsys.model.registry import CHAMPION, NEXT, PREVIOUS, SEARCH_TAG, ModelRegistry
from recsys.model.release import Release
from tests import toy
from tests.engines import ServiceProcess, eventually, is_whole, local_settings, running
from training.indexing.build import indexed_items
from training.jobs.register import register
from training.jobs.seed import seed
from training.release_manifest import registered_version

PROMOTIONS = 10
KILLED_DURING, STARTED_AFTER, BACK_BEFORE = 4, 5, 9
"""Promotions, counted from 1. One ranker dies when all have loaded the release and none has switched yet."""
RANKERS, ORCHESTRATORS = 3, 2
CALLERS_PER_ORCHESTRATOR = 2
PAUSE_SECONDS = 0.05
DELIVERED_CHECKS = {"ORCHESTRATOR_REFRESH_SECONDS": "", "RANKER_POLL_SECONDS": "1"}
"""Orchestrators look every second, as in production. Rankers look so rarely that they switch at different times."""


@dataclass
class Answer:
    orchestrator: str
    status: int
    body: dict[str, Any]

    @property
    def problem(self) -> str | None:
        """Why it is not a full response; None if it is one."""
        if self.status != 200:
            return f"status {self.status}: {self.body}"
        if self.body["tier"] != "personalized":
            return f"{self.body['tier']}: {self.body['tier_reason']}"
        return None


@dataclass
class Load:
    """Known users ask both orchestrators until the block ends."""

    urls: Sequence[str]
    answers: list[Answer] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)
    """The release of the last response, by orchestrator."""

    @contextmanager
    def running(self) -> Iterator[None]:
        ends = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(ends)), name="load")
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    async def _run(self, ends: threading.Event) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            urls = [url for url in self.urls for _ in range(CALLERS_PER_ORCHESTRATOR)]
            await asyncio.gather(*(self._call(session, url, ends) for url in urls))

    async def _call(self, session: aiohttp.ClientSession, url: str, ends: threading.Event) -> None:
        for user_id in cycle(toy.USERS):
            if ends.is_set():
                return
            body = {"user_id": user_id, "top_k": 5, "debug": True}
            async with session.post(f"{url}/v1/recommendations", json=body) as response:
                answer = Answer(url, response.status, await response.json())
            self.answers.append(answer)
            if answer.status == 200:
                self.served[url] = answer.body["release"]
            await asyncio.sleep(PAUSE_SECONDS)


@dataclass(frozen=True)
class Fleet:
    registry: ModelRegistry
    weights: dict[int, str]
    """Weights hash by version."""
    rankers: list[tuple[ServiceProcess, str]]
    """Each with its URL."""
    orchestrators: list[str]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All processes, serving the first of the releases."""
    folder = tmp_path_factory.mktemp("fleet")
    stores = local_settings(folder / "stores")
    jobs = toy.job_settings(folder / "data")
    toy.write_prepared(jobs)
    with running(stores, "redis", "mlflow", "feature_service"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", stores.mlflow_url)
        patch.setenv("REDIS_URL", stores.environment()["REDIS_URL"])
        registry = ModelRegistry(stores.mlflow_url)
        weights = dict(_registered(registry, jobs, number, folder / "qdrant") for number in range(PROMOTIONS + 1))
        registry.set_alias(CHAMPION, min(weights))
        seed(jobs)
        rankers = [_settings(folder / f"ranker-{number}", stores) for number in range(RANKERS)]
        orchestrators = [_settings(folder / f"orchestrator-{number}", stores) for number in range(ORCHESTRATORS)]
        urls = {
            "FEATURE_SERVICE_URL": stores.feature_service_url,
            "RANKER_URL": ",".join(each.ranker_url for each in rankers),
            "RANKER_RELEASES_DIR": str(folder / "releases"),  # shared, as in containers
            **DELIVERED_CHECKS,
        }
        for each in orchestrators:
            shutil.copytree(folder / "qdrant", each.home / "qdrant")  # only one process can open a collection
        with ExitStack() as stack:
            processes = [ServiceProcess("ranker_service", each, **urls) for each in rankers]
            others = [ServiceProcess("orchestrator", each, **urls) for each in orchestrators]
            for process in (*processes, *others):  # one after the other: each takes a core to start
                process.start()
                stack.callback(process.stop)
                process.wait_until_up()
            served_by = [each.orchestrator_url for each in orchestrators]
            for url in served_by:
                eventually(lambda url=url: is_whole(url), f"{url} is not ready")
            with_urls = [(process, each.ranker_url) for process, each in zip(processes, rankers, strict=True)]
            yield Fleet(registry, weights, with_urls, served_by)


def test_promotions_and_the_loss_of_a_ranker_cost_no_response(fleet: Fleet) -> None:
    load, first, versions = Load(fleet.orchestrators), min(fleet.weights), sorted(fleet.weights)[1:]
    lost, lost_url = fleet.rankers[1]
    alive = [url for _, url in fleet.rankers]
    with load.running():
        for number, version in enumerate(versions, start=1):
            if number == BACK_BEFORE:
                lost.wait_until_up()
                eventually(lambda: bool(_loaded(lost_url)), "the ranker that was started loaded nothing")
                alive.append(lost_url)
            fleet.registry.set_alias(NEXT, version)
            eventually(lambda version=version: all(version in _loaded(url) for url in alive), "not all loaded it")
            if number == KILLED_DURING:
                lost.kill()
                alive.remove(lost_url)
            fleet.registry.set_alias(PREVIOUS, version - 1)
            fleet.registry.set_alias(CHAMPION, version)
            fleet.registry.delete_alias(NEXT)
            eventually(_all_serve(load, version), f"release {version} is not served", lambda: str(load.served))
            if number == KILLED_DURING:
                _reports_the_lost_ranker(fleet.orchestrators)
            if number == STARTED_AFTER:
                lost.start()
        eventually(lambda: all(map(is_whole, fleet.orchestrators)), "something is still missing")

    problems = [answer.problem for answer in load.answers if answer.problem]
    assert not problems, f"{len(problems)} of {len(load.answers)}: {sorted(set(problems))[:5]}"
    mixed = [answer.body for answer in load.answers if not _is_of_one_release(answer.body, fleet.weights)]
    assert not mixed[:3]
    for url in fleet.orchestrators:
        assert {answer.body["release"] for answer in load.answers if answer.orchestrator == url} == {first, *versions}
    assert _answered_encodes(lost_url) > 0, "the ranker that was started got no traffic"
    print(f"\n{len(load.answers):,} responses")


def _settings(folder: Path, stores: LocalSettings) -> LocalSettings:
    return local_settings(folder, mlflow_tracking_uri=stores.mlflow_url, redis_url=stores.environment()["REDIS_URL"])


def _registered(registry: ModelRegistry, jobs: Any, number: int, qdrant: Path) -> tuple[int, str]:
    """Train, register and index one more release; returns its version and its weights hash."""
    directory = toy.write_model(jobs, f"model-{number}", seed=number + 1)
    register(jobs)
    version = registered_version(registry, directory)
    assert version is not None
    release = Release.load(version, directory)
    asyncio.run(_build_collection(qdrant, release))
    registry.set_tag(version, SEARCH_TAG, SearchSettings(hnsw_ef=None).model_dump_json())
    return version, release.manifest.weights_hash


async def _build_collection(folder: Path, release: Release) -> None:
    index = QdrantEdgeIndex(folder)
    await index.build(
        release.version,
        embedding_dim=toy.EMBEDDING_DIM,
        num_items=len(toy.ITEM_IDS),
        num_vectors=len(toy.ITEM_IDS),
        weights_hash=release.manifest.weights_hash,
        graph=None,
        batches=indexed_items(release),
    )
    await index.close()


def _loaded(ranker_url: str) -> list[int]:
    try:
        response = httpx.get(f"{ranker_url}/v1/releases", timeout=10).raise_for_status()
    except httpx.HTTPError:
        return []
    return list(response.json()["loaded"])


def _all_serve(load: Load, version: int) -> Callable[[], bool]:
    return lambda: all(load.served.get(url) == version for url in load.urls)


def _reports_the_lost_ranker(orchestrators: Sequence[str]) -> None:
    for url in orchestrators:

        def reported(url: str = url) -> bool:
            state = httpx.get(f"{url}/readyz", timeout=10)
            return state.status_code == 200 and "1 of 3 rankers do not answer" in state.json()["dependencies"]["ranker"]

        eventually(reported, "the loss of a ranker was not reported")


def _is_of_one_release(body: dict[str, Any], weights: dict[int, str]) -> bool:
    """Whether the query, the candidates and the scores are of the release that the response names."""
    provenance = body["debug"]
    return {provenance[name] for name in ("query", "collection", "rank")} == {weights[body["release"]]}


def _answered_encodes(ranker_url: str) -> float:
    lines = httpx.get(f"{ranker_url}/metrics", timeout=10).text.splitlines()
    wanted = ("tandem_requests_total{", 'route="/v1/encode"', 'status="200"')
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted))
