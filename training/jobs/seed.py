"""Write histories, attributes and popular items to Redis: `python -m training.jobs.seed`.

Seeding again has the same result, and live events that were recorded in the meantime are kept.
"""

import time
from collections.abc import Iterator
from typing import Any

import polars as pl
from redis import Redis
from redis.exceptions import RedisError
from tqdm import tqdm

from recsys.adapters.redis_feature_store import (
    MAX_SEEN,
    POPULAR,
    POPULAR_CLOCK,
    POPULAR_LIVE,
    attributes_key,
    recent_key,
    seeded_member,
    seen_key,
)
from recsys.contracts.base import MAX_HISTORY
from recsys.errors import UpstreamUnavailable
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, Manifest
from training.job import run_job
from training.settings import FeatureStoreSettings, JobSettings

USERS_PER_WRITE = 200
FAVOURITES = 3
POPULAR_SEEDING = "popular:seeding"
SHORTEST_HALF_LIFE_SECONDS = 30 * 86_400
HALF_LIVES_IN_LOG = 10
"""The half-life of popularity grows with the log: years for a log of 20 years, weeks for a log of months."""


def seed(settings: JobSettings) -> str:
    """The job. Raises UpstreamUnavailable if Redis cannot be reached."""
    manifest = Manifest.read(settings.processed_dir)
    url = FeatureStoreSettings().redis_url
    redis = Redis.from_url(url, decode_responses=True)
    interactions = pl.scan_parquet(settings.processed_dir / INTERACTIONS_FILE)
    items = pl.scan_parquet(settings.processed_dir / CATALOGUE_FILE)
    try:
        users = _seed_users(redis, interactions, items, manifest.users)
        popular = _seed_popular(redis, interactions, manifest)
    except RedisError as error:
        raise UpstreamUnavailable(f"Redis at {url}: {error}") from error
    finally:
        redis.close()
    return f"{users:,} users with their last {MAX_HISTORY} items, and {popular:,} items by popularity, are in Redis"


def _seed_users(redis: "Redis", interactions: pl.LazyFrame, items: pl.LazyFrame, expected: int) -> int:
    """Write every user's history and attributes; returns how many users there were."""
    written = 0
    with tqdm(total=expected, unit="user", desc="seed") as progress:
        for batch in _users(interactions, items):
            pipeline = redis.pipeline(transaction=False)
            for user in batch:
                _write_user(pipeline, user)
            pipeline.execute()
            written += len(batch)
            progress.update(len(batch))
    return written


def _users(interactions: pl.LazyFrame, items: pl.LazyFrame) -> Iterator[list[dict[str, Any]]]:
    """Batches of users, each with item ids and times in the order of the log, and favourite categories."""
    favourites = (
        interactions.join(items.select("item_id", "categories"), on="item_id")
        .explode("categories")
        .drop_nulls("categories")
        .group_by("user_id", "categories")
        .len()
        .sort("user_id", "len", "categories", descending=[False, True, False])
        .group_by("user_id")
        .agg(pl.col("categories").head(FAVOURITES).str.join(", ").alias("favourites"))
    )
    users = (
        interactions.group_by("user_id", maintain_order=True)
        .agg("item_id", "timestamp")
        .join(favourites, on="user_id", how="left")
        .collect(engine="streaming")
    )
    for part in users.iter_slices(USERS_PER_WRITE):
        yield part.to_dicts()


def _write_user(pipeline: Any, user: dict[str, Any]) -> None:
    user_id, item_ids, times = user["user_id"], user["item_id"], user["timestamp"]
    log = list(enumerate(zip(item_ids, times, strict=True)))
    recent = {seeded_member(position, item_id): when for position, (item_id, when) in log[-MAX_HISTORY:]}
    pipeline.zadd(recent_key(user_id), recent)
    pipeline.zremrangebyrank(recent_key(user_id), 0, -1 - MAX_HISTORY)
    last_touched = {item_id: when for _, (item_id, when) in log}
    pipeline.zadd(seen_key(user_id), last_touched, gt=True)
    pipeline.zremrangebyrank(seen_key(user_id), 0, -1 - MAX_SEEN)
    attributes = {"interactions": len(item_ids), "first_seen": times[0], "last_seen": times[-1]}
    pipeline.hset(attributes_key(user_id), mapping={**attributes, "favourite_categories": user["favourites"] or ""})


def _seed_popular(redis: "Redis", interactions: pl.LazyFrame, manifest: Manifest) -> int:
    """Write decayed popularity, with the end of the log as the present; returns the number of items."""
    half_life = max(
        SHORTEST_HALF_LIFE_SECONDS, (manifest.last_timestamp - manifest.first_timestamp) / HALF_LIVES_IN_LOG
    )
    age = manifest.last_timestamp - pl.col("timestamp")
    weights = (
        interactions.with_columns((-age / half_life * pl.lit(2.0).log()).exp().alias("weight"))
        .group_by("item_id")
        .agg(pl.col("weight").sum())
        .collect(engine="streaming")
    )
    redis.delete(POPULAR_SEEDING)
    for part in weights.iter_slices(10_000):
        redis.zadd(POPULAR_SEEDING, dict(part.iter_rows()))
    now = time.time()
    landmark = float(redis.hget(POPULAR_CLOCK, "landmark") or now)
    aged = 2 ** ((landmark - now) / half_life)
    switch = redis.pipeline(transaction=True)
    switch.zunionstore(POPULAR_LIVE, {POPULAR_LIVE: aged})
    switch.zunionstore(POPULAR, [POPULAR_SEEDING, POPULAR_LIVE])
    switch.hset(POPULAR_CLOCK, mapping={"landmark": now, "half_life": half_life})
    switch.delete(POPULAR_SEEDING)
    switch.execute()
    return len(weights)


if __name__ == "__main__":
    run_job("seed", seed)
