"""What jobs read and write about many users at once, with a client that blocks."""

import heapq
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import BlockingClient
from recsys.contracts.base import MAX_HISTORY
from recsys.steps import latest_steps


def active_users(redis: BlockingClient, limit: int) -> list[str]:
    """At most `limit` users with the latest events, latest first. About 200,000 are known (`active`)."""
    pipeline = redis.pipeline(transaction=False)
    for bucket in range(keys.BUCKETS):
        pipeline.zrange(keys.active_key(bucket), 0, max(0, limit - 1), desc=True, withscores=True)
    latest_first = heapq.merge(*pipeline.execute(), key=lambda pair: -pair[1])
    return [user_id for user_id, _ in latest_first][:limit]


class History(NamedTuple):
    user_id: str
    recent: list[str]
    """As in `UserFeatures`."""
    seen: list[str]
    """All of them."""
    disliked: list[str]


def histories(redis: BlockingClient, user_ids: Sequence[str]) -> Iterator[History]:
    """One for each user."""
    pipeline = redis.pipeline(transaction=False)
    for user_id in user_ids:
        pipeline.zrange(keys.recent_key(user_id), 0, -1)
        pipeline.zrange(keys.seen_key(user_id), 0, -1)
        pipeline.zrange(keys.disliked_key(user_id), 0, -1)
    replies = pipeline.execute()
    for user_id, recent, seen, disliked in zip(user_ids, replies[::3], replies[1::3], replies[2::3], strict=True):
        yield History(user_id, latest_steps(keys.recent_items(recent), MAX_HISTORY), seen, disliked)


def store_precomputed(
    pipeline: Any, user_id: str, release_version: int, item_ids: Sequence[str], ttl_seconds: int
) -> None:
    """Add the commands that store a user's list by a release, best item first. Lists by other releases stay."""
    pipeline.hset(keys.precomputed_key(user_id), str(release_version), json.dumps(item_ids))
    pipeline.expire(keys.precomputed_key(user_id), ttl_seconds)
