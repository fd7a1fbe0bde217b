"""How a release's collection is built and searched: the cheapest way that finds what exact search finds.

Queries come from the sample of real histories that the release carries, and are searched as requests are: at the same
number of candidates, without what the user has seen. Every setting is measured on the collection that will serve.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from recsys.contracts.retrieval import GraphSettings, IndexedItem, SearchSettings
from recsys.errors import JobError
from recsys.model.release import Release
from recsys.ports import VectorIndex
from training.recall_target import RecallTarget

SMALLEST_GRAPH = 5_000
"""Vectors. With fewer of them comparing every one takes less time than walking a graph."""
GRAPHS = (GraphSettings(m=16, ef_construct=128), GraphSettings(m=32, ef_construct=256))
"""From cheap to build to expensive; the next one is tried where the one before cannot reach the target."""
EF_FACTORS = (1, 1.5, 2, 3, 4, 6, 8)
"""`hnsw_ef` as multiples of the number of candidates; below 1 the engine raises it anyway."""
EXACT = SearchSettings(hnsw_ef=None)
LEAST_EXACT_RECALL = 0.99
"""Ties and rounding cost exact search a little. Less than this means that the collection holds other vectors."""
WORST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class VerificationQuery:
    embedding: list[float]
    exclude: list[str]
    nearest: frozenset[str]
    """What exact search finds."""


@dataclass(frozen=True, slots=True)
class Measured:
    graph: GraphSettings | None
    search: SearchSettings
    recall: float
    recall_worst: float
    search_ms: float
    """Median time of one search, of which one at a time is made."""

    def reaches(self, target: RecallTarget) -> bool:
        return self.recall >= target.mean and self.recall_worst >= target.worst

    def __str__(self) -> str:
        way = f"ef {self.search.hnsw_ef}, m {self.graph.m}" if self.graph and not self.search.exact else "exact"
        return f"{way}: recall {self.recall:.4f}, worst percent {self.recall_worst:.3f}, {self.search_ms:.2f} ms"


@dataclass(frozen=True, slots=True)
class Tuned:
    chosen: Measured
    exact: Measured
    tried: list[Measured]


def verification_queries(release: Release, histories: Sequence[np.ndarray], num_candidates: int) -> list[VerificationQuery]:
    """One query per history, with what exact search finds for it."""
    queries = []
    for history in tqdm(histories, unit="query", desc="exact search"):
        embedding = release.encode_indices(history)
        exclude = history if release.manifest.policy.exclude_seen else history[:0]
        nearest = release.nearest(embedding, num_candidates, exclude)
        item_ids = release.vocabulary.item_id
        queries.append(
            VerificationQuery(
                embedding.tolist(),
                [item_ids(int(index)) for index in exclude],
                frozenset(item_ids(int(index)) for index in nearest),
            )
        )
    return queries


async def build_and_tune(
    index: VectorIndex,
    release: Release,
    batches: Callable[[], Iterator[list[IndexedItem]]],
    queries: Sequence[VerificationQuery],
    num_candidates: int,
    target: RecallTarget,
) -> Tuned:
    """Build the release's collection in `index`, and leave it with the graph that `chosen` needs.

    A graph is chosen if it reaches the target in less time than exact search takes, the first such one; or else exact
    search. Raises JobError where exact search does not find what the release holds.
    """
    tried: list[Measured] = []
    for graph in GRAPHS if release.num_searchable >= SMALLEST_GRAPH else (None,):
        await _build(index, release, graph, batches())
        exact = await measure(index, release.version, queries, num_candidates, EXACT, None)
        _require_same_vectors(exact, release)
        tried.append(exact)
        for settings in _graph_searches(num_candidates) if graph else ():
            found = await measure(index, release.version, queries, num_candidates, settings, graph)
            tried.append(found)
            print(f"index: {found}", flush=True)
            if found.search_ms >= exact.search_ms:
                break  # broader searches take longer still
            if found.reaches(target):
                return Tuned(found, exact, tried)
    print(f"index: {exact}", flush=True)
    return Tuned(exact, exact, tried)


async def measure(
    index: VectorIndex,
    version: int,
    queries: Sequence[VerificationQuery],
    num_candidates: int,
    settings: SearchSettings,
    graph: GraphSettings | None,
) -> Measured:
    """Search for every query once, one after the other."""
    recalls, seconds = np.empty(len(queries)), np.empty(len(queries))
    described = "exact" if settings.exact else f"ef {settings.hnsw_ef}"
    for place, query in enumerate(tqdm(queries, unit="query", desc=f"verify {described}")):
        started = time.perf_counter()
        found = await index.search(version, query.embedding, num_candidates, query.exclude, settings)
        seconds[place] = time.perf_counter() - started
        hits = sum(candidate.item_id in query.nearest for candidate in found)
        recalls[place] = hits / max(1, len(query.nearest))
    worst = np.sort(recalls)[: max(1, round(WORST_SHARE * len(recalls)))]
    return Measured(graph, settings, float(recalls.mean()), float(worst.mean()), float(np.median(seconds) * 1000))


def _graph_searches(num_candidates: int) -> Iterable[SearchSettings]:
    return (SearchSettings(hnsw_ef=round(factor * num_candidates)) for factor in EF_FACTORS)


async def _build(
    index: VectorIndex, release: Release, graph: GraphSettings | None, batches: Iterator[list[IndexedItem]]
) -> None:
    with tqdm(total=release.num_searchable, unit="vector", desc="graph", disable=graph is None) as progress:
        await index.build(
            release.version,
            embedding_dim=release.manifest.embedding_dim,
            num_items=len(release.vocabulary),
            weights_hash=release.manifest.weights,
            graph=graph,
            batches=batches,
            progress=lambda indexed: _show(progress, indexed),
        )
    await index.open(release.version, release.vocabulary.item_ids, EXACT)


def _show(progress: "tqdm[None]", indexed: int) -> None:
    progress.n = indexed
    progress.refresh()


def _require_same_vectors(exact: Measured, release: Release) -> None:
    if exact.recall < LEAST_EXACT_RECALL:
        raise JobError(
            f"exact search in the collection of release {release.version} finds {exact.recall:.3f} of what the release "
            f"says is nearest, less than {LEAST_EXACT_RECALL}: the collection does not hold the release's vectors"
        )
