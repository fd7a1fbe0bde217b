"""How a release's collection is built and searched: the cheapest way that finds what exact search finds.

Queries come from the sample of real histories that the release carries, and are searched as requests are: at the same
number of candidates, without what the user has seen. Every setting is measured on the collection that will serve.
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
"""Vectors. With fewer of them comparing every one takes less time than walking a graph."""
GRAPHS = (GraphSettings(m=16, ef_construct=128), GraphSettings(m=32, ef_construct=256))
"""From cheap to build to expensive; the next one is tried where the one before cannot reach the target."""
EF_FACTORS = (1.5, 2, 3, 4, 6, 8)
"""`hnsw_ef` as multiples of the number of candidates."""
OVERSAMPLING = 2.0
"""Of what the int8 vectors find nearest, so many times the candidates are compared again in full precision."""
EXACT = SearchSettings(hnsw_ef=None)
LEAST_EXACT_RECALL = 0.99
"""Ties and rounding cost exact search a little. Less than this means that the collection holds other vectors."""
WORST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class VerificationQuery:
    embedding: Embedding
    exclude: list[str]
    num_nearest: int
    """How many items exact search finds."""
    least_score: float
    """The score of the last of them."""


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

    @property
    def how(self) -> str:
        return f"{_way(self.search)}, m {self.graph.m}" if self.graph else _way(self.search)

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
    for history in tqdm(histories, unit="query", desc="exact search"):
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
    """Build the release's collection in `index`, and leave it with the graph that `chosen` needs.

    Chosen is the quickest search that reaches the target in less time than exact search takes; where no graph has one,
    exact search. Raises JobError where exact search does not find what the release holds.
    """
    tried: list[Measured] = []

    async def try_out(search: SearchSettings, graph: GraphSettings | None) -> Measured:
        found = await measure(index, release, queries, num_candidates, search, graph)
        tried.append(found)
        print(f"index: {found}", flush=True)
        return found

    for graph in GRAPHS if release.num_searchable >= SMALLEST_GRAPH else (None,):
        await _build(index, release, graph, batches())
        exact = await try_out(EXACT, None)
        _require_same_vectors(exact, release)
        if graph is None:
            break
        enough = []
        for searches in _graph_searches(num_candidates, _query_scale(release, queries)):
            for search in searches:
                found = await try_out(search, graph)
                if found.search_ms >= exact.search_ms:
                    break  # broader searches take longer still
                if found.reaches(target):
                    enough.append(found)
                    break
        if enough:
            return Tuned(min(enough, key=lambda found: found.search_ms), exact, tried)
    return Tuned(exact, exact, tried)


async def measure(
    index: VectorIndex,
    release: Release,
    queries: Sequence[VerificationQuery],
    num_candidates: int,
    settings: SearchSettings,
    graph: GraphSettings | None,
) -> Measured:
    """Search for every query once, one after the other."""
    recalls, seconds = np.empty(len(queries)), np.empty(len(queries))
    for place, query in enumerate(tqdm(queries, unit="query", desc=f"verify {_way(settings)}")):
        embedding = query.embedding.tolist()
        started = time.perf_counter()
        found = await index.search(release.version, embedding, num_candidates, query.exclude, settings)
        seconds[place] = time.perf_counter() - started
        rows = np.array(release.vocabulary.indices(candidate.item_id for candidate in found), dtype=np.int64) - 1
        scores = release.candidate_embeddings[rows] @ query.embedding
        recalls[place] = np.count_nonzero(scores >= query.least_score - SCORE_TOLERANCE) / max(1, query.num_nearest)
    worst = np.sort(recalls)[: max(1, round(WORST_SHARE * len(recalls)))]
    return Measured(graph, settings, float(recalls.mean()), float(worst.mean()), float(np.median(seconds) * 1000))


def _way(settings: SearchSettings) -> str:
    if settings.exact:
        return "exact"
    return f"ef {settings.hnsw_ef}" if settings.oversampling is None else f"ef {settings.hnsw_ef} int8"


def _graph_searches(num_candidates: int, query_scale: float) -> Iterator[list[SearchSettings]]:
    """From narrow to broad: those over the int8 vectors, then those over the full ones."""
    widths = [(factor, round(factor * num_candidates)) for factor in EF_FACTORS]
    yield [
        SearchSettings(hnsw_ef=ef, oversampling=min(factor, OVERSAMPLING), query_scale=query_scale)
        for factor, ef in widths
    ]
    yield [SearchSettings(hnsw_ef=ef) for _, ef in widths]


def _query_scale(release: Release, queries: Sequence[VerificationQuery]) -> float:
    """What brings the queries into the range of the item vectors, which is all that their int8 copies can represent."""
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
            f"exact search in the collection of release {release.version} finds {exact.recall:.3f} of what the release "
            f"says is nearest, less than {LEAST_EXACT_RECALL}: the collection does not hold the release's vectors"
        )
