"""`python -m bench.retrieval`: the orchestrator's cost of a search on a Qdrant server, without the server's own cost.

A separate process answers every request immediately with the bytes of a real response: 200 points with 63-bit ids.
Searches exclude 40 items, as for a user with some history.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from recsys.adapters.qdrant_points import point_id
from recsys.adapters.qdrant_server_index import QdrantServerIndex
from recsys.contracts.base import NUM_CANDIDATES
from recsys.contracts.retrieval import SearchSettings

HOST = "127.0.0.1"
NUM_ITEMS = 50_000
NUM_EXCLUDED = 40
EMBEDDING_DIM = 128
WARM_UP = 200
SEARCHES = 4_000
CONCURRENCY = (1, 8)
RELEASE_VERSION = 1
ITEM_IDS = [f"P{number:06d}" for number in range(NUM_ITEMS)]
END_OF_HEAD = b"\r\n\r\n"


class Responses(asyncio.Protocol):
    """Returns the first point with its weights to a scroll, and the points found to any other request."""

    def __init__(self, found: bytes, first: bytes) -> None:
        self._found = found
        self._first = first
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(END_OF_HEAD)
        if not ended:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            self._transport.write(self._first if b"/points/scroll" in head else self._found)


def http_response(result: object) -> bytes:
    """The bytes that a server sends, including the times and versions, which have to be parsed too."""
    body = json.dumps({"result": result, "status": "ok", "time": 0.00123456}, separators=(",", ":")).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    return head.encode() + body


def serve(port: Connection) -> None:
    """The server process: sends its port, and answers until it is terminated."""
    scores = np.random.default_rng(0).uniform(5, 15, NUM_CANDIDATES).astype(np.float32)
    points = [
        {"id": point_id(item_id), "version": 12, "score": float(score)}
        for item_id, score in zip(ITEM_IDS, sorted(scores, reverse=True), strict=False)
    ]
    found = http_response({"points": points})
    first = http_response(
        {"points": [{"id": point_id(ITEM_IDS[0]), "payload": {"weights": "hash"}}], "next_page_offset": None}
    )

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Responses(found, first), HOST, 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


async def measure(url: str) -> None:
    index = QdrantServerIndex(url)
    try:
        await index.open(RELEASE_VERSION, ITEM_IDS, SearchSettings(hnsw_ef=256))
        queries = np.random.default_rng(1).normal(size=(64, EMBEDDING_DIM)).astype(np.float32).tolist()
        await search_repeatedly(index, queries, WARM_UP)
        print(f"{'at once':>8} {'CPU ms':>8} {'p50 ms':>8} {'p99 ms':>8}")
        for at_once in CONCURRENCY:
            started = time.process_time()
            spent = await asyncio.gather(
                *(search_repeatedly(index, queries, SEARCHES // at_once) for _ in range(at_once))
            )
            cpu_ms = (time.process_time() - started) / SEARCHES * 1000
            p50, p99 = np.percentile(np.concatenate(spent), [50, 99]) * 1000
            print(f"{at_once:>8} {cpu_ms:>8.3f} {p50:>8.2f} {p99:>8.2f}")
    finally:
        await index.close()


async def search_repeatedly(index: QdrantServerIndex, queries: Sequence[Sequence[float]], times: int) -> list[float]:
    """Seconds of each search."""
    spent = []
    for number in range(times):
        at = number * NUM_EXCLUDED % (NUM_ITEMS - NUM_EXCLUDED)
        started = time.perf_counter()
        candidates = await index.search(
            RELEASE_VERSION, queries[number % len(queries)], NUM_CANDIDATES, ITEM_IDS[at : at + NUM_EXCLUDED]
        )
        spent.append(time.perf_counter() - started)
        assert len(candidates) == NUM_CANDIDATES
    return spent


def main() -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(f"http://{HOST}:{here.recv()}"))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
