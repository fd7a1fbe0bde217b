"""Clients of Redis, or of a Redis Cluster, and the translation of their errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis as blocking
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from recsys.adapters.upstream import REDIS
from recsys.errors import StorageFull, UpstreamTimeout, UpstreamUnavailable

MAX_CONNECTIONS = 64
"""Per server."""
CLUSTER = "+cluster"
"""The mark of a cluster in the scheme of a URL: `redis+cluster://host:port`, where the host is any node."""
SOCKET_SECONDS = 1.0
CONNECT_SECONDS = 0.5

Client = Redis | RedisCluster
BlockingClient = blocking.Redis | blocking.RedisCluster


def open_redis(url: str) -> Client:
    """A client with one connection pool per server. A stale connection is reopened once; an unreachable server fails.

    Handshake commands are turned off: they add four round trips to a new connection, too many for a request's deadline
    if one takes 50 ms.
    """
    if CLUSTER in url:
        return RedisCluster.from_url(
            url.replace(CLUSTER, "", 1),
            max_connections=MAX_CONNECTIONS,
            protocol=2,
            driver_info=None,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=0.2,
        protocol=2,
        driver_info=None,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )
    return Redis.from_pool(pool)


def open_blocking_redis(url: str) -> BlockingClient:
    """A client for jobs, which wait for each answer as long as it takes."""
    if CLUSTER in url:
        return blocking.RedisCluster.from_url(url.replace(CLUSTER, "", 1), protocol=2, decode_responses=True)
    return blocking.Redis.from_url(url, protocol=2, decode_responses=True)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate the client's errors. Messages of connection errors are dropped: they contain addresses."""
    try:
        yield
    except (RedisTimeoutError, TimeoutError) as error:
        raise UpstreamTimeout(f"{REDIS} did not answer in time") from error
    except (RedisConnectionError, OSError) as error:
        raise UpstreamUnavailable(f"{REDIS} cannot be reached") from error
    except OutOfMemoryError as error:
        raise StorageFull(f"{REDIS} is full; no new events are stored") from error
    except RedisError as error:
        raise UpstreamUnavailable(f"{REDIS} rejected the command: {error}") from error
