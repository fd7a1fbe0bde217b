"""Build a release's collection and find the fastest search settings that reach the recall target.

The queries are the sample of real histories in the release. They are searched like requests: with the same number of
candidates and without the seen items. Every setting is measured on the collection that will serve.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Never

import numpy as np
from tqdm import tqdm

from recsys.contracts.retrieval import GraphSettings, IndexedItem, SearchSettings
from recsys.errors import JobError
from recsys.model.neighbours import Indices
from recsys.model.release import Embedding, Release
from recsys.model.retrieval_recall import SCORE_TOLERANCE
from recsys.ports import VectorIndex
from training.indexing.recall_target import RecallTarget

SMALLEST_GRAPH = 5_000
"""Vectors. In smaller collections exact search is faster than a graph."""
GRAPHS = (GraphSettings(m=16, ef_construct=128), GraphSettings(m=32, ef_construct=256))
"""Ordered by build cost. The next one is tried if the previous one does not reach the target."""
EF_FACTORS = (1.5, 2, 3, 4, 6, 8)
"""`hnsw_ef` as multiples of the number of candidates."""
OVERSAMPLING = 2.0
"""Search by int8 vectors rescores this multiple of the candidates in full precision."""
EXACT = SearchSettings(hnsw_ef=None)
LEAST_EXACT_RECALL = 0.99
"""Ties and rounding lower the recall of exact search slightly. A lower value means that the vectors are different."""
WORST_SHARE = 0.01
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class VerificationQuery:
    embedding: Embedding
    exclude: list[str]
    num_nearest: int
    """The number of items that exact search finds."""
    least_score: float
    """The score of the last of these items."""


@dataclass(frozen=True, slots=True)
class Measured:
    graph: GraphSettings | None
    search: SearchSettings
    recall: float
    recall_worst: float
    search_ms: float
    """The median time of one search, without concurrency."""

    def reaches(self, target: RecallTarget) -> bool:
        return self.recall >= target.mean and self.recall_worst >= target.worst

    @property
    def how(self) -> str:
        return f"{_search_name(self.search)}, m {self.graph.m}" if self.graph else _search_name(self.search)

    def __str__(self) -> str:
        return f"{self.how}: recall {self.recall:.4f}, worst percent {self.recall_worst:.3f}, {self.search_ms:.2f} ms"


@dataclass(frozen=True, slots=True)
class Tuned:
    chosen: Measured
    exact: Measured
    tried: list[Measured]


def verification_queries(
    release: Release, histories: Sequence[Indices], num_candidates: int
) -> list[VerificationQuery]:
    """One query per history, with the least score that exact search finds for it."""
    queries = []
    for history in tqdm(histories, unit="query", desc="exact search", mininterval=PROGRESS_SECONDS):
        embedding = release.encode_indices(history)
        exclude = history if release.manifest.policy.exclude_seen else history[:0]
        nearest = release.nearest(embedding, num_candidates, exclude)
        least = release.candidate_embeddings[nearest[-1:] - 1] @ embedding
        excluded = [release.vocabulary.item_id(int(index)) for index in exclude]
        queries.append(VerificationQuery(embedding, excluded, len(nearest), float(least.min(initial=np.inf))))
    return queries


async def build_and_tune(
    index: VectorIndex,
    release: Release,
    batches: Callable[[], Iterator[list[IndexedItem]]],
    queries: Sequence[VerificationQuery],
    num_candidates: int,
    target: RecallTarget,
) -> Tuned:
    """Build the release's collection in `index`, with the graph that the chosen settings need.

    Chosen are the fastest settings that reach the target faster than exact search, or exact search if there are none.
    Raises JobError if exact search does not find the release's vectors.
    """
    tried: list[Measured] = []

    async def try_settings(search: SearchSettings, graph: GraphSettings | None) -> Measured:
        found = await measure(index, release, queries, num_candidates, search, graph)
        tried.append(found)
        print(f"index: {found}", flush=True)
        return found

    for graph in GRAPHS if release.num_searchable >= SMALLEST_GRAPH else (None,):
        await _build(index, release, graph, batches())
        exact = await try_settings(EXACT, None)
        _require_same_vectors(exact, release)
        if graph is None:
            break
        reached = []
        for searches in _graph_searches(num_candidates, _query_scale(release, queries)):
            for search in searches:
                found = await try_settings(search, graph)
                if found.search_ms >= exact.search_ms:
                    break  # wider searches take even longer
                if found.reaches(target):
                    reached.append(found)
                    break
        if reached:
            return Tuned(min(reached, key=lambda found: found.search_ms), exact, tried)
    return Tuned(exact, exact, tried)


async def measure(
    index: VectorIndex,
    release: Release,
    queries: Sequence[VerificationQuery],
    num_candidates: int,
    settings: SearchSettings,
    graph: GraphSettings | None,
) -> Measured:
    """Search for every query once, one after another."""
    recalls, seconds = np.empty(len(queries)), np.empty(len(queries))
    for place, query in enumerate(
        tqdm(queries, unit="query", desc=f"verify {_search_name(settings)}", mininterval=PROGRESS_SECONDS)
    ):
        embedding = query.embedding.tolist()
        started = time.perf_counter()
        found = await index.search(release.version, embedding, num_candidates, query.exclude, settings)
        seconds[place] = time.perf_counter() - started
        rows = np.array(release.vocabulary.indices(candidate.item_id for candidate in found), dtype=np.int64) - 1
        scores = release.candidate_embeddings[rows] @ query.embedding
        recalls[place] = np.count_nonzero(scores >= query.least_score - SCORE_TOLERANCE) / max(1, query.num_nearest)
    worst = np.sort(recalls)[: max(1, round(WORST_SHARE * len(recalls)))]
    return Measured(graph, settings, float(recalls.mean()), float(worst.mean()), float(np.median(seconds) * 1000))


def _search_name(settings: SearchSettings) -> str:
    if settings.exact:
        return "exact"
    return f"ef {settings.hnsw_ef}" if settings.oversampling is None else f"ef {settings.hnsw_ef} int8"


def _graph_searches(num_candidates: int, query_scale: float) -> Iterator[list[SearchSettings]]:
    """Settings from narrow to wide searches: first over the int8 vectors, then over the full ones."""
    widths = [(factor, round(factor * num_candidates)) for factor in EF_FACTORS]
    yield [
        SearchSettings(hnsw_ef=ef, oversampling=min(factor, OVERSAMPLING), query_scale=query_scale)
        for factor, ef in widths
    ]
    yield [SearchSettings(hnsw_ef=ef) for _, ef in widths]


def _query_scale(release: Release, queries: Sequence[VerificationQuery]) -> float:
    """The factor that brings the queries into the range of the item vectors, which is the range of the int8 copies."""
    longest = np.percentile([np.abs(query.embedding).max() for query in queries], 99)
    return float(np.abs(release.candidate_embeddings).max() / longest)


async def _build(
    index: VectorIndex, release: Release, graph: GraphSettings | None, batches: Iterator[list[IndexedItem]]
) -> None:
    with tqdm(total=release.num_searchable, unit="vector", desc="graph", disable=graph is None) as progress:
        await index.build(
            release.version,
            embedding_dim=release.manifest.embedding_dim,
            num_items=len(release.vocabulary),
            num_vectors=release.num_searchable,
            weights_hash=release.manifest.weights_hash,
            graph=graph,
            batches=batches,
            progress=lambda indexed: _show(progress, indexed),
        )
    await index.open(release.version, release.vocabulary.item_ids, EXACT)


def _show(progress: "tqdm[Never]", indexed: int) -> None:
    progress.n = indexed
    progress.refresh()


def _require_same_vectors(exact: Measured, release: Release) -> None:
    if exact.recall < LEAST_EXACT_RECALL:
        raise JobError(
            f"exact search in the collection of release {release.version} has a recall of {exact.recall:.3f}, less "
            f"than {LEAST_EXACT_RECALL}: the collection does not hold the release's vectors"
        )
