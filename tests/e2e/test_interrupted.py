"""After `kill -9` anywhere in `make pipeline`, running the same command again gives the same result."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from redis import Redis

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.adapters.redis_keys import BUCKETS, SEEN_KEYS, popular_key
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release_manifest import ReleaseManifest
from tests.e2e.main_job import AT_LOW_PRIORITY, Running, running, settings_in
from training.model_directory import final_fit_of

PIPELINE = ["make", "pipeline"]
STORES = [".venv/bin/python", "-m", "local.stores", "sh", "-c", "echo the stores are up; exec sleep 3600"]


def own_shop(folder: Path) -> Path:
    """A small custom log: 120 users who go through 40 items in order, from different starts."""
    folder.mkdir()
    rows = [f"u{user},i{(user + step) % 40},{1000 * step + user}" for user in range(120) for step in range(12)]
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    items = [f"i{item},Item {item}" for item in range(40)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(items) + "\n")
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return settings_in(
        tmp_path, DATASET="csv", DATA_SOURCE=str(own_shop(tmp_path / "log")), TRAIN_MINUTES="0.05", LOG_LEVEL="warning"
    )


def kill_one(started: Running, part_of_command: str, after: float) -> bool:
    """Send SIGKILL to the descendant of `make` with this text in its command line, `after` seconds after it appears.

    Returns False if it had already ended.
    """
    while started.process.poll() is None:
        victim = find_descendant(started.process.pid, part_of_command)
        if victim is None:
            time.sleep(0.01)
            continue
        time.sleep(after)
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            if after:
                return False
        else:
            return True
    raise AssertionError(f"ended without a process with {part_of_command!r}:\n{started.output}")


def find_descendant(pid: int, part_of_command: str) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # another process may end during the search
                if part_of_command in " ".join(process.cmdline()) and process.name() != "setpriv":
                    return process
    return None


def state(env: dict[str, str]) -> dict[str, object]:
    """The content of stores and folders that two complete runs must have in common."""
    data = Path(env["DATA_DIR"])
    models = data / "models" / "csv"
    latest = (models / "latest").read_text().strip()
    manifest = ReleaseManifest.read(final_fit_of(models / latest))
    with stores_running(env):
        registry = ModelRegistry(f"http://127.0.0.1:{env['MLFLOW_PORT']}")
        version = registry.version_of(latest, manifest.file_hashes)
        champion = registry.aliases().get(CHAMPION)
        users, popular = _redis_counts(env)
    home = Path(env["STATE_DIR"]) / "csv"
    return {
        "fingerprint": latest,
        "version": version,
        "champion": champion,
        "users": users,
        "popular": popular,
        "collection": asyncio.run(QdrantEdgeIndex(home / "qdrant").holds(version or 0, manifest.weights_hash, 0)),
        "leftovers": sorted(path.name for path in data.rglob("*") if path.name.endswith((".partial", ".checkpoint"))),
    }


@contextmanager
def stores_running(env: dict[str, str]) -> Iterator[None]:
    """The same Redis and MLflow that `make pipeline` starts, until the end of the block."""
    with running([*AT_LOW_PRIORITY, *STORES], env) as started:
        started.wait_for("the stores are up")
        yield


def _redis_counts(env: dict[str, str]) -> tuple[int, int]:
    """The numbers of users and of popular items."""
    with Redis(port=int(env["REDIS_PORT"])) as redis:
        users = len(list(redis.scan_iter(SEEN_KEYS, count=1000)))
        return users, len({item for bucket in range(BUCKETS) for item in redis.zrange(popular_key(bucket), 0, -1)})


BESIDE_RUNNING_STORES = {
    "data": ("training.jobs.prepare", 0.8),
    "train": ("training.jobs.train", 4.0),
    "evaluate": ("training.jobs.evaluate", 3.0),
    "final-fit": ("training.jobs.final_fit", 4.0),
    "register": ("training.jobs.register", 4.0),
    "index": ("training.jobs.index", 4.0),
    "seed": ("training.jobs.seed", 1.2),
}
"""The steps of the pipeline in their order; for each, part of a command line, and the seconds after which the process
is killed, mostly in the middle of its work."""
WITH_ITS_OWN_STORES = {
    "training.jobs.promote": 3.0,
    "mlflow server": 0.0,
    "valkey-server": 0.0,
    "-m local.stores make": 0.5,
}
"""The same for processes of the whole pipeline."""


def interrupt(command: list[str], env: dict[str, str], victim: str, after: float) -> None:
    with running([*AT_LOW_PRIORITY, *command], env) as interrupted:
        if kill_one(interrupted, victim, after):
            assert interrupted.finish() != 0, f"{victim}: {interrupted.output}"
        else:
            interrupted.finish()


@pytest.mark.timeout(1200)
def test_the_pipeline_ends_the_same_after_any_process_was_killed(env: dict[str, str]) -> None:
    with stores_running(env):
        last_step: list[str] = []
        for step, (victim, after) in BESIDE_RUNNING_STORES.items():
            interrupt(["make", *last_step, step], env, victim, after)  # also resumes the step that was killed last
            last_step = [step]
    for victim, after in WITH_ITS_OWN_STORES.items():
        interrupt(PIPELINE, env, victim, after)
    with running([*AT_LOW_PRIORITY, *PIPELINE], env) as again:
        assert again.finish() == 0, again.output
    found = state(env)
    assert found == {
        "fingerprint": found["fingerprint"],
        "version": 1,
        "champion": 1,
        "users": 120,
        "popular": 40,
        "collection": True,
        "leftovers": [],
    }
