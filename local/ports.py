"""Find out which process listens on a port of this machine."""

import socket

import psutil

from local.settings import HOST
from recsys.errors import JobError


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
