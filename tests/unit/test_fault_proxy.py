"""The proxy of the fault tests must not lose what happens to a connection."""

import socket
import struct

import pytest

from local.settings import HOST
from tests.fault_proxy import FaultProxy

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def test_a_reset_by_the_server_ends_the_connection_of_the_client() -> None:
    with socket.create_server((HOST, 0)) as server:
        proxy = FaultProxy(server.getsockname()[1])
        try:
            with socket.create_connection((HOST, proxy.port), timeout=5) as client:
                accepted, _ = server.accept()
                client.sendall(b"request")
                assert accepted.recv(100) == b"request"
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                accepted.close()
                assert _is_closed(client)
        finally:
            proxy.close()


def _is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        pytest.fail("the client waits for a server that has gone")
