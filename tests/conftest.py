"""Fixtures that several test suites share: the whole stack with a tiny release, started once per worker."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

import recsys.clock
from local.settings import HOST, LocalSettings
from recsys.clock import ClockFile
from tests import toy
from tests.engines import (
    ServiceProcess,
    environment,
    eventually,
    is_whole,
    local_settings,
    qdrant_stand_in_or_skip,
    running,
)
from tests.fault_proxy import FaultProxy
from training.jobs.index import index
from training.jobs.promote import promote
from training.jobs.register import register
from training.jobs.seed import seed
from training.settings import JobSettings

Responses = dict[str, httpx.Response]

TIMED_TESTS = ("tests/faults/", "tests/contract/test_deadlines.py", "tests/integration/test_three_rankers.py")
STACK_TESTS = "tests/integration/"
"""They share one stack, so they run on one worker."""
WITHOUT_STACK = (
    "tests/integration/test_evaluate_split.py",
    "tests/integration/test_internal_token.py",
    "tests/integration/test_promotion.py",
    "tests/integration/test_retrain.py",
    "tests/integration/test_skewed_catalogue.py",
)

# Hypothesis fails an example that takes 200 ms of wall-clock time. With tests side by side, that would measure the
# other tests. The time limit of a test is pytest-timeout's.
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.load_profile("thorough")  # pytest's option --hypothesis-profile overrides this


@dataclass(frozen=True)
class Stack:
    """Every process of the local runtime, serving release 1 of the toy shop."""

    settings: LocalSettings
    jobs: JobSettings
    model_dir: Path
    """The files of release 1."""
    mlflow_proxy: FaultProxy
    """All processes call MLflow through it."""
    redis_proxy: FaultProxy
    """All processes call Redis through it."""
    engines: dict[str, ServiceProcess]
    before_events: Responses
    """The responses of the services with empty stores."""
    before_release: Responses
    """Their responses after one event and before the first release."""


class GroupScheduling(LoadScopeScheduling):
    """Tells pytest-xdist which tests one worker runs one after the other: those of a module, or of a group of modules.

    With pytest 9.2, the xdist_group mark of pytest-xdist 3.8 has no effect.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        if module.startswith(TIMED_TESTS):
            return "timed"
        return "stack" if module.startswith(STACK_TESTS) and module not in WITHOUT_STACK else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClockFile:
    """The clock of this process, which stands still until the test moves it. It begins with a whole second."""
    file = ClockFile(tmp_path / "clock", int(time.time()))
    monkeypatch.setattr(recsys.clock, "now", file.now)
    return file


@pytest.fixture(scope="session")
def monkeypatch_session() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, monkeypatch_session: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Start all processes without a model, record their responses, then run the jobs."""
    folder = tmp_path_factory.mktemp("stack")
    settings = local_settings(folder / "run")
    mlflow_proxy, redis_proxy = FaultProxy(settings.mlflow_port), FaultProxy(settings.redis_port)
    addresses = {
        "mlflow_tracking_uri": f"http://{HOST}:{mlflow_proxy.port}",
        "redis_url": f"redis://{HOST}:{redis_proxy.port}/0",
    }
    settings = settings.model_copy(update=addresses)
    for name in ("REDIS_URL", "MLFLOW_TRACKING_URI", "QDRANT_URL", "QDRANT_EDGE_DIR", "RANKER_URL"):
        monkeypatch_session.setenv(name, environment(settings)[name])
    names = ("redis", "mlflow", "feature_service", "ranker_service", "orchestrator")
    with running(settings, *names) as engines, httpx.Client(timeout=30) as client:
        eventually(lambda: "there is no champion" in client.get(f"{settings.ranker_url}/readyz").text)
        eventually(lambda: "no release is loaded" in client.get(f"{settings.orchestrator_url}/readyz").text)
        before_events = ask_everything(client, settings)
        early = {"user_id": "early bird", "item_id": toy.ITEM_IDS[0], "event": "view", "timestamp": toy.START}
        client.post(f"{settings.orchestrator_url}/v1/events", json=[early]).raise_for_status()
        before_release = ask_everything(client, settings)
        jobs = toy.job_settings(folder / "data")
        toy.write_prepared(jobs)
        model_dir = toy.write_model(jobs, "first", seed=1)
        for job in (register, index, seed, promote):
            job(jobs)
        wait_until_ready(settings)
        yield Stack(settings, jobs, model_dir, mlflow_proxy, redis_proxy, engines, before_events, before_release)
        mlflow_proxy.close()
        redis_proxy.close()


@contextmanager
def beside(stack: Stack, folder: Path, **more_environment: str) -> Iterator[LocalSettings]:
    """An orchestrator and a feature service with their own Redis, which tests may write to, and the stack's ranker."""
    own = local_settings(folder)
    shutil.copytree(stack.settings.home / "qdrant", own.home / "qdrant")  # only one process can open a collection
    environment = {"RANKER_URL": stack.settings.ranker_url, **more_environment}
    with running(own, "redis", "feature_service", "orchestrator", **environment):
        eventually(lambda: is_whole(own.orchestrator_url))
        yield own


def ask_everything(client: httpx.Client, settings: LocalSettings) -> Responses:
    """One response of each endpoint that a client or an operator uses, by name."""
    public, ranker, item = settings.orchestrator_url, settings.ranker_url, toy.ITEM_IDS[1]
    requests: dict[str, Callable[[], httpx.Response]] = {
        "healthz": lambda: client.get(f"{public}/healthz"),
        "readyz": lambda: client.get(f"{public}/readyz"),
        "recommend": lambda: client.post(
            f"{public}/v1/recommendations", json={"user_id": "u", "session_items": [item]}
        ),
        "rank": lambda: client.post(f"{public}/v1/recommendations", json={"user_id": "u", "candidate_items": [item]}),
        "popular": lambda: client.get(f"{public}/v1/popular"),
        "item": lambda: client.get(f"{public}/v1/items/{item}"),
        "similar": lambda: client.get(f"{public}/v1/items/{item}/similar"),
        "search": lambda: client.get(f"{public}/v1/items", params={"query": "thing"}),
        "ranker healthz": lambda: client.get(f"{ranker}/healthz"),
        "ranker readyz": lambda: client.get(f"{ranker}/readyz"),
        "ranker releases": lambda: client.get(f"{ranker}/v1/releases"),
        "ranker encode": lambda: client.post(f"{ranker}/v1/encode", json={"recent_items": [item]}),
        "features healthz": lambda: client.get(f"{settings.feature_service_url}/healthz"),
        "features readyz": lambda: client.get(f"{settings.feature_service_url}/readyz"),
    }
    return {name: send() for name, send in requests.items()}


def wait_until_ready(settings: LocalSettings) -> None:
    for url in (settings.feature_service_url, settings.ranker_url, settings.orchestrator_url):
        eventually(lambda url=url: is_whole(url), f"{url} is not ready, or something is missing")


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    """The public API."""
    with httpx.Client(base_url=stack.settings.orchestrator_url, timeout=30) as client:
        yield client


@pytest.fixture
def stopped(tmp_path: Path) -> LocalSettings:
    """Settings of a runtime that is not running: all its ports are closed."""
    return local_settings(tmp_path)


@pytest.fixture(scope="session")
def qdrant_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = qdrant_stand_in_or_skip(tmp_path_factory.mktemp("qdrant"))
    server.start()
    server.wait_until_up()
    yield server.url
    server.stop()
