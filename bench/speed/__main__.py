"""`make bench`: requests per second, latency and CPU of a stack of its own, beside a floor and Ray Serve.

All of them run at the same time, and are loaded in turns, so that they share whatever else the machine does.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import psutil
from pydantic import ValidationError

from bench.settings import BenchSettings
from bench.speed.generated_log import write_log
from bench.speed.processes import Groups, cpu_seconds, memory_mib, tree
from bench.speed.ray_peer import ray_environment, ray_running
from bench.speed.report import CLIENTS, FLOOR, RAY, TANDEM, WITH_SERVER, Measured, Report
from bench.speed.wrk import run_wrk, write_requests
from bench.stack import DataSet, Stack, service_processes, stack_running
from bench.stub_qdrant import stub_running
from local import commands
from local.ports import free_ports
from local.settings import HOST, LocalSettings
from local.stores import running
from local.tour import wait_until_ready
from recsys.contracts.events import MAX_EVENTS
from recsys.errors import JobError
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE

INTERRUPTED = 130
WARM_UP_SECONDS = 3.0
NUM_REQUESTS = 20_000
ZIPF_OFFSET = 10
EVENT_EVERY = 10
TOP_K = 10
HISTORY_LENGTHS = (1, 20, 100, 200)
HISTORIES = 1_000
SEEN_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded."""

    name: str
    url: str
    requests: Path
    groups: Groups


def main() -> int:
    try:
        settings = BenchSettings()
    except ValidationError as error:
        print(f"bench: failed: {'; '.join(each['msg'] for each in error.errors())}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder, ExitStack() as exits:
            stack = exits.enter_context(prepared(settings, Path(folder)))
            targets = list(started(settings, stack, Path(folder), exits))
            report = Report(settings, measure(settings, targets), measure(settings, list(by_user(stack, Path(folder)))))
    except JobError as error:
        print(f"bench: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(report.text())
    report.write(settings.bench_page)
    return 0


def prepared(settings: BenchSettings, folder: Path) -> AbstractContextManager[Stack]:
    """A stack that serves a release of the generated log."""
    name = f"{settings.bench_items}-{settings.bench_users}"
    source = write_log(kept_folder() / f"log-{name}", settings.bench_items, settings.bench_users)
    data_set = DataSet("csv", kept_in=f"bench/{name}", source=source.resolve())
    return stack_running(folder, data_set, {"log_level": "info"})


def kept_folder() -> Path:
    return LocalSettings().state_dir / "bench"


def started(settings: BenchSettings, stack: Stack, folder: Path, exits: ExitStack) -> Iterator[Target]:
    """The targets of the comparison. What they need besides the stack runs until `exits` ends."""
    users = drawn_users(stack)
    mixed = write_requests(folder / "mixed", list(with_events(users, stack)))
    groups = grouped(stack.settings)
    url = stack.settings.orchestrator_url
    yield Target(FLOOR, url, write_requests(folder / "floor", [("/healthz", None)]), groups)
    yield Target(TANDEM, url, mixed, groups)
    yield exits.enter_context(on_a_server(stack, mixed))
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
        with httpx.Client(timeout=10) as client:
            problem = wait_until_ready(client, own)
        if problem is not None:
            raise JobError(problem)
        yield Target(WITH_SERVER, own.orchestrator_url, requests, grouped(own))


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
        for batch in items.sample(SEEN_ITEMS, seed=0).to_frame().iter_slices(MAX_EVENTS):
            events = [{"user_id": "heavy", "item_id": item, "event": "view"} for item in batch["item_id"]]
            client.post("/v1/events", json=events).raise_for_status()
    heavy = write_requests(folder / "heavy", [recommendation("heavy")])
    yield Target(f"{SEEN_ITEMS:,} seen items", url, heavy, groups)


def measure(settings: BenchSettings, targets: list[Target]) -> list[Measured]:
    """Load every target in turn, with every number of clients."""
    for target in targets:
        run_wrk(target.url, target.requests, CLIENTS[-1], WARM_UP_SECONDS)
    measured: list[Measured] = []
    for number in range(settings.bench_rounds):
        for clients in CLIENTS:
            for target in targets:
                before = cpu_seconds(target.groups)
                load = run_wrk(target.url, target.requests, clients, settings.bench_seconds)
                spent = cpu_seconds(target.groups)
                cpu_ms = {name: (spent[name] - before[name]) / load.requests * 1000 for name in spent}
                measured.append(Measured(target.name, clients, load, cpu_ms, memory_mib(target.groups)))
                print(f"round {number + 1} of {settings.bench_rounds}: {measured[-1]}", flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main())
