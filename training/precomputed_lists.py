"""Lists of recommendations for the users who were active last, stored in Redis as a fallback.

A user has one list per release. `promote` stores the lists of the next champion before it serves, beside those of the
current one; `precompute` renews the champion's. A user with a fresh list by the same release is skipped, so an
interrupted run can be resumed.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from redis.exceptions import RedisError
from tqdm import tqdm

from recsys.adapters.redis_client import BlockingClient, open_blocking_redis
from recsys.adapters.redis_keys import precomputed_key
from recsys.adapters.redis_users import History, active_users, histories, store_precomputed
from recsys.candidates import merged, of_other_sources
from recsys.contracts.base import MAX_TOP_K, NUM_CANDIDATES
from recsys.errors import UpstreamUnavailable
from recsys.model.release import Release
from recsys.rules import best_first
from training.settings import FeatureStoreSettings

LIST_LENGTH = MAX_TOP_K + 50
"""Some items of a list are excluded by the time that it is served: by the request, or because they were seen since."""
RELEASES_KEPT = 3
"""Per user."""
TTL_SECONDS = 7 * 86_400
FRESH_SECONDS = 6 * 86_400
"""A user's lists with a longer time to live were written in the last day."""
BATCH = 100


@dataclass
class Counts:
    """Of users."""

    written: int = 0
    fresh: int = 0
    without_list: int = 0
    """The release knows none of their items, or they have seen everything."""


def store_lists(release: Release, champion: int | None) -> str:
    """Store the release's lists for the users who were active last; returns one line about it.

    The champion's lists are kept. Raises UpstreamUnavailable if Redis fails.
    """
    settings = FeatureStoreSettings()
    if not settings.precompute_users:
        return "no lists are stored, because PRECOMPUTE_USERS is 0"
    redis = open_blocking_redis(settings.redis_url)
    started, counts = time.monotonic(), Counts()
    try:
        users = active_users(redis, settings.precompute_users)
        with tqdm(unit="user", desc="lists", mininterval=2.0) as progress:
            for batch in _batches(users):
                _store_batch(redis, release, champion, batch, counts)
                progress.update(len(batch))
    except RedisError as error:
        raise UpstreamUnavailable(f"Redis: {error}") from error
    finally:
        redis.close()
    rate = counts.written / max(1e-9, time.monotonic() - started)
    return (
        f"{counts.written:,} lists by version {release.version} ({rate:,.0f} users/s), {counts.fresh:,} were already "
        f"fresh, and {counts.without_list:,} users have no item that the version knows"
    )


def best_items(release: Release, history: History) -> list[str]:
    """The release's list for this history, by exact search; empty if the release knows no item of the history."""
    recent = history.recent
    query = release.encode(recent)
    if query is None:
        return []
    seen = history.seen if release.manifest.policy.exclude_seen else []
    excluded = {*seen, *history.disliked}
    exclude = release.vocabulary.indices(excluded)
    unseen = list(set(recent).difference(history.seen))
    others = of_other_sources(release.other_candidates(recent, unseen).values(), excluded)
    nearest = release.nearest(query, NUM_CANDIDATES - len(others), np.array(exclude, dtype=np.int64))
    item_ids = merged((release.vocabulary.item_id(int(index)) for index in nearest), others)
    unwanted = set(release.near(history.disliked, item_ids))
    item_ids = [item_id for item_id in item_ids if item_id not in unwanted]
    scores = release.rank(recent, item_ids)
    assert scores is not None  # the release knows an item of the history
    return [item.item_id for item in best_first(item_ids, scores)[:LIST_LENGTH]]


def _batches(users: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(users)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _store_batch(
    redis: BlockingClient, release: Release, champion: int | None, users: Sequence[str], counts: Counts
) -> None:
    stored = _stored_releases(redis, users)
    due = [user_id for user_id in users if not _is_fresh(*stored[user_id], release.version)]
    counts.fresh += len(users) - len(due)
    pipeline = redis.pipeline(transaction=False)
    for history in histories(redis, due):
        user_id, item_ids = history.user_id, best_items(release, history)
        if not item_ids:
            counts.without_list += 1
            continue
        store_precomputed(pipeline, user_id, release.version, item_ids, TTL_SECONDS)
        outdated = _outdated(stored[user_id][0], release.version, champion)
        if outdated:
            pipeline.hdel(precomputed_key(user_id), *map(str, outdated))
        counts.written += 1
    pipeline.execute()


def _stored_releases(redis: BlockingClient, users: Sequence[str]) -> dict[str, tuple[list[int], int]]:
    """By user: the releases that they have a list of, and its time to live in seconds."""
    pipeline = redis.pipeline(transaction=False)
    for user_id in users:
        pipeline.hkeys(precomputed_key(user_id))
        pipeline.ttl(precomputed_key(user_id))
    replies = pipeline.execute()
    stored = zip(users, replies[::2], replies[1::2], strict=True)
    return {user_id: ([int(version) for version in versions], ttl) for user_id, versions, ttl in stored}


def _is_fresh(stored: Sequence[int], ttl: int, version: int) -> bool:
    return version in stored and ttl > FRESH_SECONDS


def _outdated(stored: Sequence[int], version: int, champion: int | None) -> list[int]:
    """The releases whose lists make room for those of `version`. The champion's stay, and then the newest."""
    others = sorted((each for each in stored if each != version), key=lambda each: (each == champion, each))
    return others[: max(0, len(others) + 1 - RELEASES_KEPT)]
