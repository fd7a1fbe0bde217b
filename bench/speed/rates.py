"""How fast the services of a stack start, and how much its jobs get done per second."""

import asyncio
import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from bench.stack import Stack
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE
from training.model_directory import latest_towers, read_training

STARTED = ("ranker_service", "orchestrator", "feature_service")
RESTARTS = 3
LISTS = 10_000
USERS_PER_SECOND = re.compile(r"\(([0-9,]+) users/s\)")


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, of the jobs of a stack."""

    trained_interactions: float
    """As recorded when the towers were trained, maybe in an earlier run."""
    indexed_items: float
    """With the start of the process, the download of the release, and the search for the best settings."""
    seeded_users: float
    """With the start of the process."""
    precomputed_users: float


def start_seconds(stack: Stack) -> dict[str, float]:
    """The median time from the start of a service's process until it is ready, with its release on disk."""
    return {name: float(np.median([stack.services.restart(name) for _ in range(RESTARTS)])) for name in STARTED}


def job_rates(stack: Stack) -> Rates:
    record = read_training(latest_towers(stack.data.models_dir))
    log = pl.scan_parquet(stack.data.processed_dir / INTERACTIONS_FILE)
    users = log.select(pl.col("user_id").n_unique()).collect().item()
    items = pl.scan_parquet(stack.data.processed_dir / CATALOGUE_FILE).select(pl.len()).collect().item()
    found = USERS_PER_SECOND.search(asyncio.run(stack.jobs.run("precompute", PRECOMPUTE_USERS=str(LISTS))))
    return Rates(
        trained_interactions=record["epochs"] * record["num_interactions"] / record["seconds"],
        indexed_items=items / stack.jobs.seconds["index"],
        seeded_users=users / stack.jobs.seconds["seed"],
        precomputed_users=float(found[1].replace(",", "")) if found else 0.0,
    )
