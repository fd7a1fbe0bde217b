"""A stub of a Qdrant server in a process of its own, which answers every search with the recorded form of a response.

It costs next to nothing, so a measurement shows what Tandem itself does for a search on a server.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np

from local.settings import HOST
from recsys.adapters.qdrant_points import point_id
from recsys.contracts.base import NUM_CANDIDATES

END_OF_HEAD = b"\r\n\r\n"


@contextmanager
def stub_running(item_ids: Sequence[str], weights_hash: str) -> Iterator[str]:
    """The URL of a stub whose searches find the first items. Each collection has these weights."""
    here, there = multiprocessing.Pipe()
    arguments = (there, list(item_ids[:NUM_CANDIDATES]), len(item_ids), weights_hash)
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)
    server.start()
    try:
        yield f"http://{HOST}:{here.recv()}"
    finally:
        server.terminate()
        server.join()


class _Responses(asyncio.Protocol):
    """Returns the first point with its weights to a scroll, its state to a GET, and the points found to a search."""

    def __init__(self, found: bytes, first: bytes, state: bytes) -> None:
        self._found = found
        self._first = first
        self._state = state
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(END_OF_HEAD)
        if not ended:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length:
            self._received = b""
            self._transport.write(self._response_to(head))

    def _response_to(self, head: bytes) -> bytes:
        if head.startswith(b"GET "):
            return self._state
        return self._first if b"/points/scroll" in head else self._found


def _http_response(result: object) -> bytes:
    """The bytes that a server sends, including the times and versions, which have to be parsed too."""
    body = json.dumps({"result": result, "status": "ok", "time": 0.00123456}, separators=(",", ":")).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    return head.encode() + body


def _serve(port: Connection, item_ids: Sequence[str], num_items: int, weights_hash: str) -> None:
    """The server process: sends its port, and answers until it is terminated. Every search finds `item_ids`."""
    scores = np.random.default_rng(0).uniform(5, 15, NUM_CANDIDATES).astype(np.float32)
    points = [
        {"id": point_id(item_id), "version": 12, "score": float(score)}
        for item_id, score in zip(item_ids, sorted(scores, reverse=True), strict=False)
    ]
    found = _http_response({"points": points})
    first = _http_response(
        {"points": [{"id": point_id(item_ids[0]), "payload": {"weights": weights_hash}}], "next_page_offset": None}
    )

    counts = {"points_count": num_items, "indexed_vectors_count": num_items}
    state = _http_response({"status": "green", **counts})

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Responses(found, first, state), HOST, 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())
