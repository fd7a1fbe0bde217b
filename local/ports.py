"""Who listens on a port of this machine."""

import socket

import psutil

from local.settings import HOST
from recsys.errors import JobError


def listener(port: int) -> psutil.Process | None:
    """The process that listens on a port, as far as this user may see it."""
    for connection in psutil.net_connections(kind="inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid is not None:
            return psutil.Process(connection.pid)
    return None


def require_free(port: int, setting: str) -> None:
    """Raises JobError, naming who has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            holder = listener(port)
            who = f"{holder.name()}, pid {holder.pid}" if holder else "another program"
            raise JobError(f"port {port} is taken by {who}; stop it, or choose another with {setting}=<port>") from None
