"""Ports of this machine: which are free, and which process listens on one."""

import socket

import psutil

from local.settings import HOST
from recsys.errors import JobError


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listener(port: int) -> psutil.Process | None:
    """The process that listens on a port; None if there is none, or if this user may not see it."""
    for connection in psutil.net_connections(kind="inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid is not None:
            return psutil.Process(connection.pid)
    return None


def require_free(port: int, setting: str) -> None:
    """Raises JobError, naming the process that uses the port, if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            holder = listener(port)
            owner = f"{holder.name()}, pid {holder.pid}" if holder else "another program"
            raise JobError(
                f"port {port} is taken by {owner}; stop it, or choose another port with {setting}=<port>"
            ) from None
