"""Precompute a list of recommendations for every active user: `python -m training.jobs.precompute`.

The lists are a fallback and stay in Redis until they expire. Users with a fresh list by this champion are skipped, so
an interrupted run can be resumed.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from redis import Redis
from redis.exceptions import RedisError
from tqdm import tqdm

from recsys.adapters.redis_feature_store import (
    POSITION_LENGTH,
    precomputed_key,
    recent_key,
    seen_key,
    store_precomputed,
)
from recsys.errors import JobError, UpstreamUnavailable
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release import Release
from recsys.rules import best_first
from training.job import run_job
from training.settings import FeatureStoreSettings, JobSettings, RegistrySettings

LIST_LENGTH = 50
TTL_SECONDS = 7 * 86_400
FRESH_SECONDS = 6 * 86_400
"""A list with a longer time to live was written in the last day."""
RANKED = 200
"""How many of the nearest items are ranked for a list."""
BATCH = 200
USER_KEYS = recent_key("*")


def precompute(_: JobSettings) -> str:
    """The job. Raises JobError if there is no champion."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    champion = registry.aliases().get(CHAMPION)
    if champion is None:
        raise JobError("there is no champion; run `make promote` first")
    with TemporaryDirectory() as scratch:
        registry.fetch(champion, Path(scratch))
        release = Release.load(champion, Path(scratch))
    redis = Redis.from_url(FeatureStoreSettings().redis_url, decode_responses=True)
    started = time.monotonic()
    try:
        written, fresh = _write_lists(redis, release)
    except RedisError as error:
        raise UpstreamUnavailable(f"Redis: {error}") from error
    finally:
        redis.close()
    rate = written / max(1e-9, time.monotonic() - started)
    return f"{written:,} lists by version {champion} ({rate:,.0f} rows/s), {fresh:,} were already fresh"


def _write_lists(redis: "Redis", release: Release) -> tuple[int, int]:
    """The numbers of lists that were written and that were already fresh."""
    written = fresh = 0
    keys = redis.scan_iter(USER_KEYS, count=BATCH)
    with tqdm(unit="user", desc="precompute") as progress:
        while batch := list(islice(keys, BATCH)):
            users = [_user_id(key) for key in batch]
            due = _due(redis, users, release.version)
            pipeline = redis.pipeline(transaction=False)
            for user_id, recent, seen in _histories(redis, due):
                store_precomputed(pipeline, user_id, release.version, best_items(release, recent, seen), TTL_SECONDS)
            pipeline.execute()
            written, fresh = written + len(due), fresh + len(users) - len(due)
            progress.update(len(users))
    return written, fresh


def _user_id(key: str) -> str:
    before, after = USER_KEYS.split("*")
    return key[len(before) : -len(after)]


def _due(redis: "Redis", users: list[str], version: int) -> list[str]:
    """The users without a fresh list by this version."""
    pipeline = redis.pipeline(transaction=False)
    for user_id in users:
        pipeline.hexists(precomputed_key(user_id), str(version))
        pipeline.ttl(precomputed_key(user_id))
    replies = pipeline.execute()
    found = zip(users, replies[::2], replies[1::2], strict=True)
    return [user_id for user_id, has_list, ttl in found if not (has_list and ttl > FRESH_SECONDS)]


def _histories(redis: "Redis", users: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """(user, recent items, seen items) for each user."""
    pipeline = redis.pipeline(transaction=False)
    for user_id in users:
        pipeline.zrange(recent_key(user_id), 0, -1)
        pipeline.zrange(seen_key(user_id), 0, -1)
    replies: list[Any] = pipeline.execute()
    for user_id, recent, seen in zip(users, replies[::2], replies[1::2], strict=True):
        yield user_id, [member[POSITION_LENGTH:] for member in recent], seen


def best_items(release: Release, recent: list[str], seen: list[str]) -> list[str]:
    """The release's list for this history, by exact search; empty if the release knows no item of the history."""
    query = release.encode(recent)
    if query is None:
        return []
    exclude = release.vocabulary.indices(seen) if release.manifest.policy.exclude_seen else []
    nearest = release.nearest(query, RANKED, np.array(exclude, dtype=np.int64))
    item_ids = [release.vocabulary.item_id(int(index)) for index in nearest]
    scores = release.rank(recent, item_ids)
    assert scores is not None  # the release knows an item of the history
    return [item.item_id for item in best_first(item_ids, scores)[:LIST_LENGTH]]


if __name__ == "__main__":
    run_job("precompute", precompute)
