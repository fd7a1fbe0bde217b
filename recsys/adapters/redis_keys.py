"""The keys of the feature store in Redis. No other module builds them.

Users are hashed to a bounded number of buckets. All keys of a bucket have its tag in braces, so they are in one slot of
a Redis Cluster, and a script may use the keys of a user together with the counts of the bucket. Several buckets spread
the counts, which every event writes, over the nodes.

Per user: `recent` (the newest events, a sorted set of `<order><content><item_id>` by time), `seen` (every item by the
time of its last event that counts as seen), `disliked` (the newest items that the user does not want, by time),
`event_ids` (the recorded events by the time of arrival), `attributes` (a hash) and `precomputed` (a hash of lists by
release version). Per bucket: `popular` (items by popularity), its `clock`, `next` (what a seed job is counting),
`next:clock`, `counted` (the users in `next`), `active` (the latest users by the time of their last event),
`activity:<day>` (the uses of items in a UTC day), and a stream per table of the event log. Events are in the bucket of
their user; impressions, in the bucket of their batch. Besides, `reports:releases` has the last report on releases.
"""

import hashlib
import zlib
from base64 import urlsafe_b64encode

from recsys.contracts.event_log import LogTable

BUCKETS = 16
FIRST_LIVE_ORDER = 0x800
RELEASES_REPORT = "reports:releases"
PREFIX_LENGTH = 16
"""Hexadecimal digits before the item id in `recent`. 3 order events with equal timestamps: the place in the log, or 800
and more for live events. 9 are the whole second, and 4 a hash of the kind: these two are the event's content."""


def bucket_of(name: str) -> int:
    """The bucket of a user, or of a batch of impressions."""
    return zlib.crc32(name.encode()) % BUCKETS


def recent_key(user_id: str) -> str:
    return _user_key(user_id, "recent")


def seen_key(user_id: str) -> str:
    return _user_key(user_id, "seen")


def disliked_key(user_id: str) -> str:
    return _user_key(user_id, "disliked")


def event_ids_key(user_id: str) -> str:
    return _user_key(user_id, "event_ids")


def attributes_key(user_id: str) -> str:
    return _user_key(user_id, "attributes")


def precomputed_key(user_id: str) -> str:
    return _user_key(user_id, "precomputed")


def user_keys(user_id: str) -> list[str]:
    """All keys of a user."""
    of_user = (recent_key, seen_key, disliked_key, event_ids_key, attributes_key, precomputed_key)
    return [key_of(user_id) for key_of in of_user]


def popular_key(bucket: int) -> str:
    return f"{_tag(bucket)}:popular"


def clock_key(bucket: int) -> str:
    return f"{_tag(bucket)}:popular:clock"


def next_popular_key(bucket: int) -> str:
    return f"{_tag(bucket)}:popular:next"


def next_clock_key(bucket: int) -> str:
    return f"{_tag(bucket)}:popular:next:clock"


def counted_key(bucket: int) -> str:
    return f"{_tag(bucket)}:popular:next:counted"


def active_key(bucket: int) -> str:
    return f"{_tag(bucket)}:active"


def activity_key(bucket: int, day: int) -> str:
    return f"{_tag(bucket)}:activity:{day}"


def log_key(table: LogTable, bucket: int) -> str:
    return f"{_tag(bucket)}:log:{table}"


def batch_key(bucket: int, batch_id: str) -> str:
    """Marks a batch of impressions as appended."""
    return f"{_tag(bucket)}:log:{batch_id}:batch"


def touched_by_events(user_id: str) -> list[str]:
    """The keys of `record_events.lua`, in its order; those of the days come after them."""
    bucket = bucket_of(user_id)
    of_user = f"{_tag(bucket)}:user:{user_id}:"
    first = [f"{of_user}{name}" for name in ("recent", "seen", "event_ids", "attributes")]
    return [*first, *_BUCKET_KEYS[bucket], f"{of_user}disliked"]


SEEN_KEYS = "{b*}:user:*:seen"
"""A glob pattern of every user's `seen`."""


def user_of_seen_key(key: str) -> str:
    """The user whose `seen` this is."""
    return key.partition(":user:")[2].removesuffix(":seen")


def recent_items(members: list[str]) -> list[str]:
    """The item ids of members of `recent`."""
    return [member[PREFIX_LENGTH:] for member in members]


def content_of(second: int, kind: str) -> str:
    """The content of an event, besides its item, as in `recent`."""
    return f"{second:09x}{zlib.crc32(kind.encode()) & 0xFFFF:04x}"


def log_order(place: int) -> str:
    """The order of an event of the log, by its place among the user's events in the same second."""
    return f"{min(place, FIRST_LIVE_ORDER - 1):03x}"


def event_id_member(event_id: str) -> str:
    """The member of `event_ids`: 72 bits of a hash, which need less memory than most ids."""
    return urlsafe_b64encode(hashlib.blake2b(event_id.encode(), digest_size=9).digest()).decode()


def _user_key(user_id: str, name: str) -> str:
    return f"{_tag(bucket_of(user_id))}:user:{user_id}:{name}"


def _tag(bucket: int) -> str:
    return f"{{b{bucket:02d}}}"


_OF_EVENTS = (active_key, popular_key, clock_key, next_popular_key, next_clock_key, counted_key)
_BUCKET_KEYS = [
    [*(key_of(bucket) for key_of in _OF_EVENTS), log_key(LogTable.EVENTS, bucket)] for bucket in range(BUCKETS)
]
