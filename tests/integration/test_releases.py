"""Releases change under load, and a faulty new release never affects the one that serves."""

import asyncio
import gc
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from recsys.errors import JobError
from recsys.model.files import WEIGHTS_FILE
from recsys.model.registry import CHALLENGER, CHAMPION, NEXT, PREVIOUS, ModelRegistry
from tests import toy
from tests.conftest import Stack
from tests.engines import ServiceProcess, answers_with_200, environment, eventually, is_whole, local_settings, running
from training.jobs.index import index
from training.jobs.precompute import precompute
from training.jobs.promote import promote
from training.jobs.prune import prune
from training.jobs.register import register
from training.jobs.releases import releases
from training.jobs.rollback import rollback
from training.release_manifest import registered_version

ROOT = Path(__file__).parents[2]
REQUESTS_PER_SECOND = 60
SWAPS = 10


@pytest.fixture(scope="module")
def registry(stack: Stack) -> ModelRegistry:
    return ModelRegistry(stack.settings.mlflow_url)


def new_version(stack: Stack, name: str, seed: int) -> int:
    """Register another trained model. No service uses it yet."""
    directory = toy.write_model(stack.jobs, name, seed=seed)
    register(stack.jobs)
    version = registered_version(ModelRegistry(stack.settings.mlflow_url), directory)
    assert version is not None
    return version


@pytest.fixture(scope="module")
def second(stack: Stack) -> int:
    return new_version(stack, "another", seed=3)


@pytest.fixture(autouse=True)
def restore_first_release(stack: Stack, registry: ModelRegistry) -> Iterator[None]:
    """Restore release 1 as the champion, without other aliases, after each test."""
    yield
    registry.set_alias(CHAMPION, 1)
    for alias in set(registry.aliases()) - {CHAMPION}:
        registry.delete_alias(alias)
    (stack.jobs.models_dir / "latest").write_text("first")
    with httpx.Client(base_url=stack.settings.orchestrator_url, timeout=30) as api:
        eventually(lambda: recommend(api)["release"] == 1 and is_whole(stack.settings.orchestrator_url))


def recommend(api: httpx.Client, **more: object) -> dict:
    body = {"user_id": "reader-1", "session_items": [toy.ITEM_IDS[0]], "debug": True, **more}
    answer = api.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def weights_behind(answer: dict) -> set[str]:
    return {answer["debug"][part] for part in ("query", "collection", "rank")}


def champion(registry: ModelRegistry) -> int | None:
    return registry.aliases().get(CHAMPION)


# --- promotion --------------------------------------------------------------------------------------------------------


def test_promotion_moves_the_alias_last_and_keeps_the_one_before_warm(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSION", str(second))
    said = promote(stack.jobs)
    assert f"version {second} is the champion, version 1 stays warm; the ranker has it loaded" in said
    assert registry.aliases() == {CHAMPION: second, PREVIOUS: 1}
    assert "already" in promote(stack.jobs)


def test_rollback_goes_back_and_forth(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSION", str(second))
    promote(stack.jobs)
    rollback(stack.jobs)
    assert registry.aliases() == {CHAMPION: 1, PREVIOUS: second}
    rollback(stack.jobs)
    assert registry.aliases() == {CHAMPION: second, PREVIOUS: 1}


def test_without_a_release_before_there_is_no_way_back(stack: Stack) -> None:
    with pytest.raises(JobError, match="no release to go back to"):
        rollback(stack.jobs)


def test_a_worse_version_is_promoted_by_force_only(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.set_tag(second, "ndcg_at_10", "0.0100")
    registry.set_tag(1, "ndcg_at_10", "0.2000")
    monkeypatch.setenv("VERSION", str(second))
    with pytest.raises(JobError, match=r"0\.0100 and the champion, version 1, 0\.2000.*FORCE=1"):
        promote(stack.jobs)
    assert champion(registry) == 1
    monkeypatch.setenv("FORCE", "1")
    promote(stack.jobs)
    assert champion(registry) == second
    registry.set_tag(second, "ndcg_at_10", "0.2000")


def test_a_version_that_nobody_registered_is_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSION", "999")
    with pytest.raises(JobError, match="version 999 does not exist"):
        promote(stack.jobs)


def test_the_list_of_releases_names_versions_aliases_metrics_and_size(
    stack: Stack, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "versions" in releases(stack.jobs)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["version", "aliases", "dataset", "NDCG@10", "HR@200", "recall", "age", "size"]
    row = next(line for line in printed if line.split()[0] == "1")
    assert CHAMPION in row
    assert "1.0000" in row


def test_pruning_removes_old_collections_and_nothing_that_serves(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSION", str(second))
    promote(stack.jobs)
    monkeypatch.delenv("VERSION")
    for number in range(2):
        new_version(stack, f"newer-{number}", seed=20 + number)
        index(stack.jobs)
    monkeypatch.setenv("KEEP", "1")
    said = prune(stack.jobs)
    folder = stack.settings.home / "qdrant"
    left = {path.name for path in folder.iterdir() if path.name.startswith("items_v") and path.is_dir()}
    assert {"items_v1", f"items_v{second}"} < left, said
    assert "removed items_v" in said
    assert len(left) == 3


# --- under load -------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    statuses: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """The bodies of answers that are not 200."""
    mixed: list[dict] = field(default_factory=list)
    tiers: set[str] = field(default_factory=set)
    releases: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)

    def p99(self, since: float, until: float) -> float:
        during = [ms for ms, at in zip(self.milliseconds, self.answered_at, strict=True) if since <= at < until]
        return sorted(during)[int(len(during) * 0.99)]


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    """Send requests at a constant rate until the block ends."""
    seen, stopping, tasks = Load(), asyncio.Event(), set()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        body = {"user_id": f"load-{number % 50}", "session_items": [toy.ITEM_IDS[number % 5]], "debug": True}
        started = time.perf_counter()
        answer = await client.post("/v1/recommendations", json=body)
        seen.milliseconds.append((time.perf_counter() - started) * 1000)
        seen.answered_at.append(time.perf_counter())
        seen.statuses.append(answer.status_code)
        response = answer.json()
        if answer.status_code != 200:
            seen.failed.append(answer.text)
            return
        seen.tiers.add(response["tier"])
        seen.releases.append(response["release"])
        if len(weights_behind(response)) != 1:
            seen.mixed.append(response)

    async def keep_asking(client: httpx.AsyncClient) -> None:
        number = 0
        while not stopping.is_set():
            task = asyncio.create_task(ask(client, number))
            tasks.add(task)
            number += 1
            await asyncio.sleep(1 / REQUESTS_PER_SECOND)

    headers = {"x-deadline-ms": "1000"}  # whether it is fast on a busy machine is not the question here
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits) as client:
        asking = asyncio.create_task(keep_asking(client))
        try:
            yield seen
        finally:
            stopping.set()
            await asking
            await asyncio.gather(*tasks)


@pytest.mark.timeout(300)
async def test_ten_swaps_under_load_lose_nothing_and_mix_nothing(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSION", str(second))
    async with load(stack.settings.orchestrator_url) as seen:
        await asyncio.sleep(3)
        quiet = time.perf_counter()
        for swap in range(SWAPS):
            await asyncio.to_thread(promote if swap == 0 else rollback, stack.jobs)
            wanted = await asyncio.to_thread(champion, registry)
            for _ in range(600):
                if seen.releases[-1] == wanted:
                    break
                await asyncio.sleep(0.05)
            assert seen.releases[-1] == wanted, "the orchestrator did not switch to the new champion"
        swapped = time.perf_counter()
    assert len(seen.statuses) > 10 * REQUESTS_PER_SECOND / 2
    assert seen.failed == []
    assert seen.mixed == []
    assert seen.tiers == {"personalized"}
    assert set(seen.releases) == {1, second}
    print(f"p99 before {seen.p99(0, quiet):.1f} ms, during swaps {seen.p99(quiet, swapped):.1f} ms")


@pytest.mark.timeout(300)
def test_a_killed_promotion_leaves_a_whole_champion(
    api: httpx.Client, stack: Stack, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = new_version(stack, "killed", seed=9)
    command = [sys.executable, "-m", "training.jobs.promote"]
    env = {
        **environment(stack.settings),
        "DATASET": "toy",
        "DATA_DIR": str(stack.jobs.data_dir),
        "VERSION": str(version),
    }
    for seconds in (1.0, 2.5, 3.5, 4.5, 6.0):
        job = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        job.kill()
        job.wait()
        assert champion(registry) in (1, version)
        answer = recommend(api)
        assert answer["tier"] == "personalized"
        assert len(weights_behind(answer)) == 1
    monkeypatch.setenv("VERSION", str(version))
    promote(stack.jobs)
    assert champion(registry) == version
    eventually(lambda: recommend(api)["release"] == version)


# --- faulty releases --------------------------------------------------------------------------------------------------


def artifact_of(stack: Stack, registry: ModelRegistry, version: int, name: str) -> Path:
    """A version's file in the artifact folder of the tracking server."""
    run_id = registry._client.get_model_version("two_tower", str(version)).run_id
    return next((stack.settings.home / "mlflow" / "artifacts").rglob(f"{run_id}/artifacts/release/{name}"))


def ranker_says(stack: Stack) -> str:
    return httpx.get(f"{stack.settings.ranker_url}/readyz", timeout=30).text


def failures(stack: Stack) -> float:
    lines = httpx.get(f"{stack.settings.ranker_url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tandem_release_failures_total"))


def test_one_wrong_byte_in_the_weights_leaves_the_old_release_serving(
    api: httpx.Client, stack: Stack, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = new_version(stack, "damaged", seed=5)
    weights = artifact_of(stack, registry, version, WEIGHTS_FILE)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("VERSION", str(version))
    with pytest.raises(Exception, match=WEIGHTS_FILE):
        promote(stack.jobs)
    assert registry.aliases() == {CHAMPION: 1}
    before = failures(stack)
    registry.set_alias(CHAMPION, version)  # set directly, without the checks of promote
    eventually(lambda: WEIGHTS_FILE in ranker_says(stack), "the ranker did not report the damaged file")
    assert httpx.get(f"{stack.settings.ranker_url}/readyz", timeout=30).status_code == 200
    assert failures(stack) > before
    answer = recommend(api)
    assert (answer["release"], answer["tier"]) == (1, "personalized")


def test_a_missing_collection_leaves_the_old_release_serving(
    api: httpx.Client, stack: Stack, registry: ModelRegistry, second: int
) -> None:
    index_folder = stack.settings.home / "qdrant"
    version = new_version(stack, "unindexed", seed=6)
    registry.set_alias(CHAMPION, version)  # set directly, without a collection
    eventually(lambda: f"items_v{version}" in api.get("/readyz").json()["dependencies"]["index"])
    assert not (index_folder / f"items_v{version}").exists()
    answer = recommend(api)
    assert (answer["release"], answer["tier"]) == (1, "personalized")


def test_a_full_disk_leaves_the_old_release_serving(stack: Stack, registry: ModelRegistry, tmp_path: Path) -> None:
    version = new_version(stack, "too-much", seed=8)
    settings = local_settings(tmp_path, mlflow_tracking_uri=stack.settings.mlflow_url)
    with running(settings, "ranker_service"), httpx.Client(base_url=settings.ranker_url, timeout=30) as ranker:
        eventually(lambda: ranker.get("/readyz").status_code == 200)
        body = {"recent_items": [toy.ITEM_IDS[0]], "candidate_items": toy.ITEM_IDS}
        ranker.post("/v1/rank", json=body).raise_for_status()  # the first request makes files for its metrics
        too_little = artifact_of(stack, registry, version, WEIGHTS_FILE).stat().st_size - 1
        for pid in processes_of(settings.ranker_port):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (too_little, resource.RLIM_INFINITY))
        registry.set_alias(NEXT, version)
        eventually(lambda: "weights.safetensors" in ranker.get("/readyz").text, "the full disk was not reported")
        assert ranker.get("/v1/releases").json()["champion"] == 1
        assert ranker.post("/v1/rank", json=body).json()["release"] == 1
        for pid in processes_of(settings.ranker_port):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: version in ranker.get("/v1/releases").json()["loaded"], "it did not recover")


def processes_of(port: int) -> list[int]:
    """The processes of the ranker: its supervisor and its workers."""
    supervisor = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if "bentoml" in (process.info["cmdline"] or []) and str(port) in process.info["cmdline"]
    )
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def test_a_copy_of_another_registry_s_version_is_not_served(stack: Stack, tmp_path: Path) -> None:
    settings = local_settings(tmp_path, mlflow_tracking_uri=stack.settings.mlflow_url)
    shutil.copytree(toy.write_model(stack.jobs, "stranger", seed=77), settings.home / "releases" / "1")
    with running(settings, "ranker_service"), httpx.Client(base_url=settings.ranker_url, timeout=30) as ranker:
        eventually(lambda: ranker.get("/readyz").status_code == 200)
        body = {"recent_items": [toy.ITEM_IDS[0]], "candidate_items": toy.ITEM_IDS}
        expected = httpx.post(f"{stack.settings.ranker_url}/v1/rank", json=body, timeout=30).json()["weights"]
        assert ranker.post("/v1/rank", json=body).json()["weights"] == expected


def test_an_emptied_registry_changes_nothing(stack: Stack, registry: ModelRegistry, second: int) -> None:
    registry.set_alias(CHALLENGER, second)
    eventually(lambda: ranker_serves(stack.settings.ranker_url)["challenger"] == second)
    for alias in (CHAMPION, CHALLENGER):  # a challenger removed beside a champion would be a decision
        registry.delete_alias(alias)
    eventually(lambda: "MLflow names no release any more" in ranker_says(stack), "the ranker did not report it")
    serving = ranker_serves(stack.settings.ranker_url)
    assert (serving["champion"], serving["challenger"]) == (1, second)
    registry.set_alias(CHAMPION, 1)
    eventually(lambda: ranker_serves(stack.settings.ranker_url)["challenger"] is None, "it did not follow again")


def test_a_download_leaves_no_threads(registry: ModelRegistry, tmp_path: Path) -> None:
    """The garbage collector would end them, but it rarely runs in a service: a ranker had 8 more per promotion."""
    gc.collect()
    before = set(threading.enumerate())
    gc.disable()
    try:
        registry.fetch(1, tmp_path)
        registry.manifest_of(1)
        assert set(threading.enumerate()) <= before
    finally:
        gc.enable()


def test_rankers_with_one_folder_load_the_same_release_at_once(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    rankers = [local_settings(tmp_path / name, mlflow_tracking_uri=stack.settings.mlflow_url) for name in ("a", "b")]
    with ExitStack() as processes:
        started = [ServiceProcess("ranker_service", each, RANKER_RELEASES_DIR=str(folder)) for each in rankers]
        for process in started:
            process.start()
            processes.callback(process.stop)
        for each in rankers:
            eventually(lambda url=each.ranker_url: answers_with_200(f"{url}/readyz"))
            assert ranker_serves(each.ranker_url)["champion"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["1", "aliases.json", "locks", "search.json"]


def test_a_release_that_does_not_fit_in_memory_is_reported(stack: Stack, tmp_path: Path) -> None:
    settings = local_settings(tmp_path, mlflow_tracking_uri=stack.settings.mlflow_url)
    with running(settings, "ranker_service", RANKER_MEMORY_LIMIT="1MB"):
        reason = "release 1: loading takes about 48 MB of memory, and 0 MB are left of the 1 MB of RANKER_MEMORY_LIMIT"
        eventually(lambda: ranker_serves(settings.ranker_url)["problems"] == [reason])
        says = ranker_serves(settings.ranker_url)
        assert (says["champion"], says["loaded"]) == (None, [])
        readiness = httpx.get(f"{settings.ranker_url}/readyz", timeout=30)
        assert readiness.status_code == 503
        assert reason in readiness.text


def ranker_serves(ranker_url: str) -> dict:
    return httpx.get(f"{ranker_url}/v1/releases", timeout=30).json()


# --- split traffic ----------------------------------------------------------------------------------------------------


def test_users_are_split_between_champion_and_challenger_and_stay_there(
    stack: Stack, registry: ModelRegistry, second: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERSION", str(second))
    (stack.jobs.models_dir / "latest").write_text("another")
    index(stack.jobs)
    registry.set_alias(CHALLENGER, second)
    own = {"orchestrator_port": local_settings(tmp_path).orchestrator_port, "state_dir": tmp_path}
    settings = stack.settings.model_copy(update=own)
    shutil.copytree(stack.settings.home / "qdrant", settings.home / "qdrant")  # only one process can open a collection
    split = {"ORCHESTRATOR_EXPERIMENT": "champion:50,challenger:50", "ORCHESTRATOR_SHADOW": "true"}
    with (
        running(settings, "orchestrator", **split),
        httpx.Client(base_url=settings.orchestrator_url, timeout=30) as api,
    ):
        eventually(lambda: recommend(api, user_id="x") and in_shadow(api) is not None)
        eventually(lambda: ask(api, "x", "challenger")["release"] == second, "the challenger was not loaded")
        answers = {f"user-{n}": recommend(api, user_id=f"user-{n}") for n in range(60)}
        again = {user: recommend(api, user_id=user) for user in answers}
        assert {u: each["variant"] for u, each in answers.items()} == {u: each["variant"] for u, each in again.items()}
        shares = [response["variant"] for response in answers.values()]
        assert 15 < shares.count("challenger") < 45
        expected = {"champion": 1, "challenger": second}
        assert all(response["release"] == expected[response["variant"]] for response in answers.values())
        assert ask(api, "x", "champion")["release"] == 1
        refused = api.post("/v1/recommendations", json={"user_id": "x"}, headers={"x-variant": "nobody"})
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid_request")
        response = ask(api, "x", "challenger")
        event = {"user_id": "x", "item_id": "i", "event": "view", "recommendation_id": response["recommendation_id"]}
        api.post("/v1/events", json=[event]).raise_for_status()
        metrics = api.get("/metrics").text
        assert 'tandem_attributed_events_total{variant="challenger"} 1.0' in metrics
        assert 'tandem_exposures_total{tier="personalized",variant="challenger"}' in metrics
        assert "tandem_sample_ratio_p_value" in metrics
        eventually(lambda: (in_shadow(api) or 0) > 0, "no shadow request was compared")
    log = (settings.home / "logs" / "orchestrator.log").read_text()
    assert '"shadow_compared"' in log
    assert f'"shadow_release":{second}' in log


def ask(api: httpx.Client, user_id: str, variant: str) -> dict:
    body = {"user_id": user_id, "session_items": [toy.ITEM_IDS[0]]}
    return api.post("/v1/recommendations", json=body, headers={"x-variant": variant}).json()


def in_shadow(api: httpx.Client) -> float | None:
    lines = api.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('tandem_shadows_total{outcome="compared"'))


# --- precomputed lists ------------------------------------------------------------------------------------------------


def test_lists_are_stored_before_the_release_serves_and_the_feature_service_has_them(stack: Stack) -> None:
    precompute(stack.jobs)  # for users of other tests, who came after the promotion
    assert precompute(stack.jobs).startswith("0 lists by version 1")
    for user_id, history in toy.USERS.items():
        url = f"{stack.settings.feature_service_url}/v1/users/{user_id}/precomputed?release=1"
        precomputed = httpx.get(url, timeout=30).json()["precomputed"]
        assert precomputed["release"] == 1
        assert precomputed["item_ids"]
        assert not set(precomputed["item_ids"]) & set(history)
