"""A sparse catalogue: few of its 30,000 items have most of the events, and 3,000 have none.

A table that learns it without bounds gives its items vectors whose lengths span two orders of magnitude, beside a bias
that grows with popularity. HNSW under a plain dot product finds few of the nearest among those.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.contracts.retrieval import CatalogueItem, IndexedItem, SearchSettings
from recsys.model.histories import load_histories
from recsys.model.release import Release
from recsys.model.two_tower import TwoTower, TwoTowerConfig
from tests import toy
from training.indexing.build import indexed_items
from training.indexing.recall_target import RecallTarget
from training.indexing.tuning import GRAPHS, VerificationQuery, build_and_tune, measure, verification_queries
from training.release_manifest import describe_release

NUM_ITEMS, NUM_UNSEEN, DIM, NUM_CLUSTERS = 30_000, 3_000, 32, 300
NUM_CANDIDATES = 200
LENGTHS = np.random.default_rng(1).permutation(np.geomspace(3, 0.03, NUM_ITEMS))[:, None].astype(np.float32)
BROADEST = SearchSettings(hnsw_ef=8 * NUM_CANDIDATES)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    directory = tmp_path_factory.mktemp("skewed")
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    cluster = random.integers(0, NUM_CLUSTERS, NUM_ITEMS)
    vectors = random.normal(size=(NUM_CLUSTERS, DIM - 1))[cluster] + 0.7 * random.normal(size=(NUM_ITEMS, DIM - 1))
    vectors *= LENGTHS / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-NUM_UNSEEN:] = 0
    bias = -np.log(np.arange(1, NUM_ITEMS + 1))
    model = TwoTower(TwoTowerConfig(num_items=NUM_ITEMS, num_content_features=0, embedding_dim=DIM, num_layers=1))
    with torch.no_grad():
        model.item_embedding.weight[1:] = torch.from_numpy(vectors)
        model.item_bias.weight[1:, 0] = torch.from_numpy(bias - bias.mean())
    together = np.argsort(cluster[:-NUM_UNSEEN], kind="stable") + 1  # a user keeps to a few clusters
    starts, lengths = random.integers(0, len(together) - 50, 200), random.integers(1, 50, 200)
    histories = [together[start : start + length].tolist() for start, length in zip(starts, lengths, strict=True)]
    described = [{"item_id": str(index), "title": f"Thing {index}"} for index in range(1, NUM_ITEMS + 1)]
    toy.write_files(directory, model, described, histories)
    describe_release(directory)
    return Release.load(1, directory)


@pytest.fixture(scope="module")
def queries(release: Release) -> list[VerificationQuery]:
    return verification_queries(release, load_histories(release.items_file.parent), NUM_CANDIDATES)


async def test_a_graph_finds_nearly_all_of_the_nearest(
    release: Release, queries: list[VerificationQuery], tmp_path: Path
) -> None:
    index = QdrantEdgeIndex(tmp_path)
    target = RecallTarget.for_size(NUM_ITEMS)
    tuned = await build_and_tune(index, release, lambda: indexed_items(release), queries, NUM_CANDIDATES, target)
    assert tuned.chosen.reaches(target)
    assert tuned.exact.recall > 0.999
    found = await measure(index, release, queries, NUM_CANDIDATES, BROADEST, GRAPHS[0])
    assert found.reaches(target)
    status = await index.status(release.version)
    assert status.num_points == NUM_ITEMS
    assert status.num_indexed >= 0.95 * (NUM_ITEMS - NUM_UNSEEN)
    await index.close()


async def test_items_that_nothing_places_are_found_by_title_but_not_by_vector(
    release: Release, queries: list[VerificationQuery], tmp_path: Path
) -> None:
    index = QdrantEdgeIndex(tmp_path)
    batches = indexed_items(release)
    await index.build(
        1,
        embedding_dim=DIM,
        num_items=NUM_ITEMS,
        num_vectors=release.num_searchable,
        weights_hash="",
        graph=GRAPHS[0],
        batches=batches,
    )
    await index.open(1, release.vocabulary.item_ids, BROADEST)
    unseen = str(NUM_ITEMS)
    assert await index.find_by_title(1, f"thing {unseen}", 5) == [unseen]
    assert await index.similar(1, unseen, 5) == []
    for query in queries[:20]:
        found = await index.search(1, query.embedding, 1000)
        assert all(int(candidate.item_id) <= NUM_ITEMS - NUM_UNSEEN for candidate in found)
    await index.close()


async def test_without_equal_lengths_the_same_graph_finds_little(release: Release, tmp_path: Path) -> None:
    """What the geometry is for: the same items as a table without bounds would hold them."""
    scale = release.encode_empty_history()[-1]
    unbounded = np.concatenate(
        [release.candidate_embeddings[:, :-1] * LENGTHS, release.candidate_embeddings[:, -1:] * scale], axis=1
    )
    batches = [
        [
            IndexedItem(CatalogueItem(str(row), "", {}), unbounded[row].tolist())
            for row in range(start, min(start + 1000, NUM_ITEMS))
        ]
        for start in range(0, NUM_ITEMS, 1000)
    ]
    index = QdrantEdgeIndex(tmp_path)
    await index.build(
        1,
        embedding_dim=DIM,
        num_items=NUM_ITEMS,
        num_vectors=NUM_ITEMS,
        weights_hash="",
        graph=GRAPHS[0],
        batches=batches,
    )
    await index.open(1, [str(row) for row in range(NUM_ITEMS)], SearchSettings(hnsw_ef=2 * NUM_CANDIDATES))
    recalls = []
    for history in load_histories(release.items_file.parent)[:50]:
        query = release.encode_indices(history)
        query[-1] = 1.0
        nearest = set(np.argsort(-(unbounded @ query))[:NUM_CANDIDATES].tolist())
        found = await index.search(1, query.tolist(), NUM_CANDIDATES)
        recalls.append(len(nearest & {int(candidate.item_id) for candidate in found}) / NUM_CANDIDATES)
    await index.close()
    assert np.mean(recalls) < 0.8
