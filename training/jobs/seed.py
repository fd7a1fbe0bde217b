"""Write histories, attributes and popular items to Redis: `python -m training.jobs.seed`.

Seeding again has the same result, live events are kept, and an event that is both live and in the log counts once.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import polars as pl
from redis.exceptions import OutOfMemoryError, RedisError
from tqdm import tqdm

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import BlockingClient, open_blocking_redis
from recsys.adapters.redis_feature_store import MAX_ACTIVE, MAX_RECENT, MAX_SEEN
from recsys.adapters.redis_popularity import NEXT_TTL_SECONDS, publish_counts, start_counting
from recsys.adapters.redis_scripts import SEED_USER
from recsys.contracts.base import MAX_DISLIKED, MAX_HISTORY
from recsys.contracts.event_kinds import EventKinds
from recsys.errors import StorageFull, UpstreamUnavailable
from training.datasets.event_kinds import steps_of
from training.datasets.manifest import CATALOGUE_FILE, INTERACTIONS_FILE, Manifest
from training.job import run_job
from training.settings import FeatureStoreSettings, JobSettings

USERS_PER_WRITE = 200
FAVOURITES = 3
SHORTEST_HALF_LIFE_SECONDS = 30 * 86_400
HALF_LIVES_IN_LOG = 10
"""The half-life of popularity grows with the log: years for a log of 20 years, weeks for a log of months."""
NOT_IN_THE_LOG = 0
"""In place of a time to live: the user's own stays."""


Row = tuple[str, int, str]
"""Item, second and kind."""


class LogEvent(NamedTuple):
    item_id: str
    kind: str
    second: int
    order: int
    """Place among the user's events in that second."""


def seed(settings: JobSettings) -> str:
    """The job. Raises UpstreamUnavailable if Redis cannot be reached, and StorageFull if it has no room."""
    manifest = Manifest.read(settings.processed_dir)
    store = FeatureStoreSettings()
    redis = open_blocking_redis(store.redis_url)
    kinds = manifest.event_kinds
    interactions = pl.scan_parquet(settings.processed_dir / INTERACTIONS_FILE)
    items = pl.scan_parquet(settings.processed_dir / CATALOGUE_FILE)
    try:
        redis.script_load(SEED_USER.text)
        start_counting(redis, _half_life(manifest), manifest.last_timestamp)
        users = _seed_users(redis, interactions, items, kinds, manifest.users, store.user_ttl_seconds)
        _count_other_users(redis)
        popular = publish_counts(redis, set(items.select("item_id").collect()["item_id"]))
    except OutOfMemoryError as error:
        raise StorageFull(f"Redis at {store.redis_url} is full; raise its maxmemory (REDIS_MAXMEMORY)") from error
    except RedisError as error:
        raise UpstreamUnavailable(f"Redis at {store.redis_url}: {error}") from error
    finally:
        redis.close()
    return f"{users:,} users with their last {MAX_HISTORY} items, and {popular:,} items by popularity, are in Redis"


def _half_life(manifest: Manifest) -> float:
    span = manifest.last_timestamp - manifest.first_timestamp
    return max(SHORTEST_HALF_LIFE_SECONDS, span / HALF_LIVES_IN_LOG)


def _seed_users(
    redis: BlockingClient,
    interactions: pl.LazyFrame,
    items: pl.LazyFrame,
    kinds: EventKinds,
    expected: int,
    ttl_seconds: int,
) -> int:
    """Write every user's history and attributes; returns how many users there were."""
    written = 0
    with tqdm(total=expected, unit="user", desc="seed") as progress:
        for batch in _users(interactions, items, kinds):
            pipeline = redis.pipeline(transaction=False)
            for user in batch:
                _write_user(pipeline, user, kinds, ttl_seconds)
            pipeline.execute()
            written += len(batch)
            progress.update(len(batch))
    return written


def _users(interactions: pl.LazyFrame, items: pl.LazyFrame, kinds: EventKinds) -> Iterator[list[dict[str, Any]]]:
    """Batches of users, each with item ids, times and kinds in the order of the log, and favourite categories."""
    favourites = (
        interactions.filter(steps_of(pl.col("event"), kinds))
        .join(items.select("item_id", "categories"), on="item_id")
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
        .agg("item_id", "timestamp", "event")
        .join(favourites, on="user_id", how="left")
        .collect(engine="streaming")
    )
    for part in users.iter_slices(USERS_PER_WRITE):
        yield part.to_dicts()


def _write_user(pipeline: Any, user: dict[str, Any], kinds: EventKinds, ttl_seconds: int) -> None:
    user_id, rows = user["user_id"], list(zip(user["item_id"], user["timestamp"], user["event"], strict=True))
    seen = _last_events(row for row in rows if kinds.of(row[2]).marks_seen)
    if seen:
        pipeline.zadd(keys.seen_key(user_id), dict(seen[-MAX_SEEN:]), gt=True)
    disliked = _last_events(row for row in rows if kinds.of(row[2]).negative)
    if disliked:
        pipeline.zadd(keys.disliked_key(user_id), dict(disliked[-MAX_DISLIKED:]), gt=True)
        pipeline.zremrangebyrank(keys.disliked_key(user_id), 0, -1 - MAX_DISLIKED)
        pipeline.expire(keys.disliked_key(user_id), ttl_seconds)
    steps = [row for row in rows if kinds.of(row[2]).in_history]
    if not steps:
        pipeline.expire(keys.seen_key(user_id), ttl_seconds)
        return
    attributes = {"interactions": len(steps), "first_seen": steps[0][1], "last_seen": steps[-1][1]}
    favourites = {"favourite_categories": user["favourites"] or ""}
    pipeline.hset(keys.attributes_key(user_id), mapping={**attributes, **favourites})
    _run_seed_user(pipeline, user_id, ttl_seconds, latest_runs(_log_events(steps)))


def _last_events(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Each item with the time of its last event, oldest first."""
    last_events = {item_id: second for item_id, second, _ in rows}
    return sorted(last_events.items(), key=lambda pair: pair[1])


def _log_events(rows: Sequence[Row]) -> list[LogEvent]:
    events: list[LogEvent] = []
    for second, of_second in groupby(rows, key=lambda row: row[1]):
        events += [LogEvent(item_id, kind, second, order) for order, (item_id, _, kind) in enumerate(of_second)]
    return events


def latest_runs(events: Sequence[LogEvent]) -> list[LogEvent]:
    """The events of the latest MAX_HISTORY runs of one item; if they are too many, only the ends of each run."""
    runs = [list(run) for _, run in groupby(events, key=lambda event: event.item_id)][-MAX_HISTORY:]
    if sum(len(run) for run in runs) > MAX_RECENT:
        runs = [run[:1] if len(run) == 1 else [run[0], run[-1]] for run in runs]
    return [event for run in runs for event in run]


def _run_seed_user(pipeline: Any, user_id: str, ttl_seconds: int, events: Sequence[LogEvent]) -> None:
    bucket = keys.bucket_of(user_id)
    touched = [keys.recent_key(user_id), keys.seen_key(user_id), keys.attributes_key(user_id), keys.active_key(bucket)]
    touched += [keys.next_popular_key(bucket), keys.next_clock_key(bucket), keys.counted_key(bucket)]
    limits = [ttl_seconds, MAX_HISTORY, MAX_RECENT, MAX_SEEN, MAX_ACTIVE, NEXT_TTL_SECONDS]
    fields: list[str | int] = []
    for event in events:
        fields += [keys.log_order(event.order), keys.content_of(event.second, event.kind), event.item_id, event.second]
    pipeline.execute_command("EVALSHA", SEED_USER.sha, len(touched), *touched, user_id, *limits, *fields)


def _count_other_users(redis: BlockingClient) -> None:
    """Count the popularity of users who are not in the log."""
    found = redis.scan_iter(keys.SEEN_KEYS, count=USERS_PER_WRITE)
    while batch := list(islice(found, USERS_PER_WRITE)):
        pipeline = redis.pipeline(transaction=False)
        for key in batch:
            _run_seed_user(pipeline, keys.user_of_seen_key(key), NOT_IN_THE_LOG, [])
        pipeline.execute()


if __name__ == "__main__":
    run_job("seed", seed)
