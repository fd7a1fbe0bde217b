"""What `make bench` loads: a floor, this version, an earlier one, and Ray Serve; with which requests."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import psutil

from bench.settings import BenchSettings
from bench.speed.generated_log import write_log
from bench.speed.measured import WARM_UP_SECONDS, Target
from bench.speed.previous import code_of
from bench.speed.processes import Groups, tree
from bench.speed.ray_peer import ray_environment, ray_running
from bench.speed.wrk import write_requests
from bench.stack import DataSet, Stack, service_processes, stack_running
from bench.stub_qdrant import stub_running
from local import commands
from local.ports import free_ports
from local.settings import HOST, LocalSettings
from local.stores import running
from local.tour import wait_until_ready
from recsys.contracts.events import MAX_EVENTS
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE

FLOOR, TANDEM, WITH_SERVER, RAY = "floor: /healthz", "Tandem on Edge", "Tandem, Qdrant server", "Ray Serve composition"
NUM_REQUESTS = 20_000
ZIPF_OFFSET = 10
EVENT_EVERY = 10
TOP_K = 10
HISTORY_LENGTHS = (1, 20, 100, 200)
HISTORIES = 1_000
SEEN_ITEMS = 10_000
NUM_CANDIDATES = (50, 200, 1_000)
NUM_RANKERS = (1, 2)


def prepared(folder: Path, size: tuple[int, int], code: Path | None = None) -> AbstractContextManager[Stack]:
    """A stack that serves a release of the generated log with this many items and users."""
    name = f"{size[0]}-{size[1]}"
    source = write_log(kept_folder() / f"log-{name}", *size)
    kept_in = f"bench/{name}" if code is None else f"bench/{code.name}-{name}"
    folder.mkdir(exist_ok=True)
    return stack_running(folder, DataSet("csv", kept_in, source.resolve()), {"log_level": "info"}, code)


def kept_folder() -> Path:
    return LocalSettings().state_dir / "bench"


def started(settings: BenchSettings, stack: Stack, folder: Path, exits: ExitStack) -> Iterator[Target]:
    """The targets of the comparison. What they need besides the stack runs until `exits` ends."""
    users = drawn_users(stack)
    mixed = write_requests(folder / "mixed", list(with_events(users, stack)))
    groups, url = grouped(stack.settings), stack.settings.orchestrator_url
    yield Target(FLOOR, url, write_requests(folder / "floor", [("/healthz", None)]), groups)
    yield Target(TANDEM, url, mixed, groups)
    yield exits.enter_context(on_a_server(stack, mixed))
    if settings.bench_previous is not None:
        code = code_of(settings.bench_previous, kept_folder())
        other = exits.enter_context(prepared(folder / "previous", settings.size, code))
        name = f"Tandem {settings.bench_previous} on Edge"
        yield Target(name, other.settings.orchestrator_url, mixed, grouped(other.settings))
    if settings.bench_ray:
        python = ray_environment(kept_folder() / "ray")
        [port] = free_ports(1)
        process = exits.enter_context(ray_running(python, port, folder / "ray.log"))
        time.sleep(WARM_UP_SECONDS)
        bare = write_requests(folder / "ray", [("/", {"user_id": user, "top_k": TOP_K}) for user in users])
        yield Target(RAY, f"http://{HOST}:{port}", bare, {"ray": tree(process.pid)})


@contextmanager
def on_a_server(stack: Stack, requests: Path) -> Iterator[Target]:
    """A second orchestrator of the stack, which searches on a Qdrant server, or on a stub of one."""
    with ExitStack() as exits:
        url = BenchSettings().qdrant_url
        if url is None:
            release = httpx.get(f"{stack.settings.ranker_url}/v1/releases", timeout=10).json()
            [weights_hash] = release["weights"].values()
            items = pl.read_parquet(stack.data.processed_dir / CATALOGUE_FILE, columns=["item_id"])
            url = exits.enter_context(stub_running(items["item_id"].to_list(), weights_hash))
        else:
            asyncio.run(stack.jobs.run("index", QDRANT_URL=url))
        [port] = free_ports(1)
        own = stack.settings.model_copy(update={"orchestrator_port": port, "qdrant_url": url})
        exits.enter_context(running("orchestrator_on_a_server", commands.orchestrator(own), own))
        wait_until_ready(own)
        yield Target(WITH_SERVER, own.orchestrator_url, requests, grouped(own))


def by_user(stack: Stack, folder: Path) -> Iterator[Target]:
    """Users with histories of a certain length, and one who has seen many items."""
    items = pl.read_parquet(stack.data.processed_dir / CATALOGUE_FILE, columns=["item_id"])["item_id"]
    groups, url = grouped(stack.settings), stack.settings.orchestrator_url
    for steps in HISTORY_LENGTHS:
        requests = [
            (
                "/v1/recommendations",
                {"user_id": f"new-{seed}", "session_items": items.sample(steps, seed=seed).to_list()},
            )
            for seed in range(HISTORIES)
        ]
        yield Target(f"history length {steps}", url, write_requests(folder / f"history-{steps}", requests), groups)
    with httpx.Client(base_url=url, timeout=10, headers={"x-deadline-ms": "2000"}) as client:
        seen = items.sample(min(SEEN_ITEMS, len(items)), seed=0)
        for batch in seen.to_frame().iter_slices(MAX_EVENTS):
            events = [{"user_id": "heavy", "item_id": item, "event": "view"} for item in batch["item_id"]]
            client.post("/v1/events", json=events).raise_for_status()
    heavy = write_requests(folder / "heavy", [recommendation("heavy")])
    yield Target(f"{len(seen):,} seen items", url, heavy, groups)


def by_candidates(stack: Stack, folder: Path) -> Iterator[Target]:
    """The orchestrator with other numbers of candidates. It is restarted for every target, so load them in turn."""
    for number in NUM_CANDIDATES:
        stack.services.restart("orchestrator", {"ORCHESTRATOR_NUM_CANDIDATES": str(number)})
        yield of_users(f"{number:,} candidates", stack, folder)


def by_rankers(stack: Stack, folder: Path) -> Iterator[Target]:
    """The orchestrator with several replicas of the ranker. It is restarted for every target, so load them in turn."""
    rankers = [stack.settings]
    with ExitStack() as exits:
        for number in NUM_RANKERS:
            while len(rankers) < number:
                [port] = free_ports(1)
                rankers.append(stack.settings.model_copy(update={"ranker_port": port}))
                name = f"ranker_service_{len(rankers)}"
                own_folder = {"RANKER_RELEASES_DIR": str(folder / name)}
                exits.enter_context(running(name, commands.ranker_service(rankers[-1]), rankers[-1], own_folder))
            wait_until_ready(rankers[-1])
            stack.services.restart("orchestrator", {"RANKER_URL": ",".join(each.ranker_url for each in rankers)})
            target = of_users(f"{number} ranker{'s' * (number > 1)}", stack, folder)
            added = [process for each in rankers[1:] for process in grouped(each)["ranker_service"]]
            all_rankers = [*target.groups["ranker_service"], *added]
            yield Target(target.name, target.url, target.requests, {**target.groups, "ranker_service": all_rankers})


def of_users(name: str, stack: Stack, folder: Path) -> Target:
    """Recommendations and events of users of the log."""
    requests = write_requests(folder / "of-users", list(with_events(drawn_users(stack), stack)))
    return Target(name, stack.settings.orchestrator_url, requests, grouped(stack.settings))


def grouped(settings: LocalSettings) -> Groups:
    """The processes that a request uses, by the name of their service."""
    groups: dict[str, list[psutil.Process]] = {}
    for name, process in service_processes(settings).items():
        groups.setdefault(name.partition(",")[0], []).append(process)
    return {name: group for name, group in groups.items() if name != "mlflow"}


def drawn_users(stack: Stack) -> list[str]:
    """Users of the log, Zipf-distributed."""
    log = pl.scan_parquet(stack.data.processed_dir / INTERACTIONS_FILE)
    users = log.select(pl.col("user_id").unique()).collect()["user_id"].sort().to_numpy()
    rng = np.random.default_rng(1)
    weights = 1 / (rng.permutation(len(users)) + ZIPF_OFFSET)
    return [str(user) for user in rng.choice(users, NUM_REQUESTS, p=weights / weights.sum())]


def recommendation(user_id: str) -> tuple[str, object]:
    return "/v1/recommendations", {"user_id": user_id, "top_k": TOP_K}


def with_events(users: list[str], stack: Stack) -> Iterator[tuple[str, object]]:
    """Recommendations, and one event in ten requests."""
    items = pl.read_parquet(stack.data.processed_dir / CATALOGUE_FILE, columns=["item_id"])["item_id"]
    sampled = items.sample(len(users), with_replacement=True, seed=1).to_list()
    for number, (user_id, item_id) in enumerate(zip(users, sampled, strict=True)):
        if number % EVENT_EVERY:
            yield recommendation(user_id)
        else:
            yield "/v1/events", [{"user_id": user_id, "item_id": item_id, "event": "view"}]
