"""A Redis Cluster of three of the embedded servers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis as redis_client
from redis.exceptions import RedisError

from local import commands
from local.settings import HOST, LocalSettings
from tests.engines import ServiceProcess, eventually, local_settings, redis_answers

NODES = 3
SLOTS = 16_384
HIGHEST_PORT = 55_535
"""The nodes talk to each other on the port + 10,000."""


@contextmanager
def redis_cluster(folder: Path) -> Iterator[str]:
    """Start the cluster, and stop it after the block. Yields its URL."""
    nodes = [_node(folder / str(number)) for number in range(NODES)]
    with ExitStack() as stack:
        for settings in nodes:
            process = _Node(settings)
            process.start()
            stack.callback(process.stop)
        clients = [_client(stack, settings) for settings in nodes]
        for settings in nodes:
            eventually(lambda settings=settings: redis_answers(settings), f"port {settings.redis_port} has no Redis")
        _join(clients, nodes)
        eventually(lambda: all(_is_whole(client) for client in clients), "the cluster did not form")
        yield f"redis+cluster://{HOST}:{nodes[0].redis_port}"


class _Node(ServiceProcess):
    def __init__(self, settings: LocalSettings) -> None:
        super().__init__("redis", settings)
        options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
        self._command = [*commands.redis(settings), *options]


def _node(folder: Path) -> LocalSettings:
    while (settings := local_settings(folder)).redis_port > HIGHEST_PORT:
        pass
    return settings


def _client(stack: ExitStack, settings: LocalSettings) -> redis_client.Redis:
    return stack.enter_context(redis_client.Redis(HOST, settings.redis_port, decode_responses=True))


def _join(clients: list[redis_client.Redis], nodes: list[LocalSettings]) -> None:
    for number, client in enumerate(clients):
        first, end = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for other in nodes[:number]:
            client.execute_command("CLUSTER MEET", HOST, other.redis_port)


def _is_whole(client: redis_client.Redis) -> bool:
    try:
        info = client.execute_command("CLUSTER INFO")
        known = client.execute_command("CLUSTER NODES")
    except RedisError:
        return False
    return info["cluster_state"] == "ok" and len(known) == NODES
