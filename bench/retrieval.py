"""`python -m bench.retrieval`: the orchestrator's cost of a search on a Qdrant server, without the server's own cost.

A separate process answers every request immediately with the bytes of a real response: 200 points with 63-bit ids.
Searches exclude 40 items, as for a user with some history.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from bench.stub_qdrant import stub_running
from recsys.adapters.qdrant_server_index import QdrantServerIndex
from recsys.contracts.base import NUM_CANDIDATES
from recsys.contracts.retrieval import SearchSettings

NUM_ITEMS = 50_000
NUM_EXCLUDED = 40
EMBEDDING_DIM = 128
WARM_UP = 200
SEARCHES = 4_000
CONCURRENCY = (1, 8)
RELEASE_VERSION = 1
ITEM_IDS = [f"P{number:06d}" for number in range(NUM_ITEMS)]


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
    with stub_running(ITEM_IDS, "hash") as url:
        asyncio.run(measure(url))


if __name__ == "__main__":
    main()
