"""Build and tune the index of a generated catalogue: `python -m bench.index_size 1000000`.

Items form clusters, their bias falls with their rank like popularity, and each history stays within a few clusters.
"""

import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.files import ITEMS_FILE, METRICS_FILE, TRAINING_FILE, VOCABULARY_FILE
from recsys.model.histories import load_histories, save_histories
from recsys.model.release import Release
from recsys.model.two_tower import TwoTower, TwoTowerConfig, save_model
from recsys.model.vocabulary import Vocabulary
from training.indexing.build import indexed_items
from training.indexing.recall_target import RecallTarget
from training.indexing.tuning import build_and_tune, verification_queries
from training.release_manifest import describe_release

EMBEDDING_DIM = 64
ITEMS_PER_CLUSTER = 100
NUM_FACTORS = 16
"""The intrinsic dimension of the items, which is below that of their embeddings, as in real catalogues."""
NOISE = 0.5
"""Spread within a cluster, and of what no factor explains, relative to the spread of the clusters."""
NUM_HISTORIES = 500
MAX_HISTORY = 50


def write_model(directory: Path, num_items: int) -> None:
    """Write an untrained model with a generated item table."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    cluster_of = random.integers(0, max(1, num_items // ITEMS_PER_CLUSTER), num_items)
    tastes = random.standard_normal((int(cluster_of.max()) + 1, NUM_FACTORS), dtype=np.float32)[cluster_of]
    tastes += NOISE * random.standard_normal(tastes.shape, dtype=np.float32)
    vectors = tastes @ random.standard_normal((NUM_FACTORS, EMBEDDING_DIM - 1), dtype=np.float32)
    vectors += NOISE * random.standard_normal(vectors.shape, dtype=np.float32)
    model = TwoTower(TwoTowerConfig(num_items=num_items, num_content_features=0, embedding_dim=EMBEDDING_DIM))
    bias = -np.log(np.arange(1, num_items + 1))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_out.weight"):  # an untrained layer adds noise; without it, queries follow the last item
                weight.zero_()
        model.item_embedding.weight[1:] = torch.from_numpy(vectors)
        model.item_bias.weight[1:, 0] = torch.from_numpy(bias - bias.mean())
    save_model(model, directory)
    item_ids = [f"i{index}" for index in range(1, num_items + 1)]
    Vocabulary(item_ids).save(directory / VOCABULARY_FILE)
    with (directory / ITEMS_FILE).open("w") as file:
        file.writelines(json.dumps({"item_id": item_id, "title": f"Thing {item_id}"}) + "\n" for item_id in item_ids)
    together = np.argsort(cluster_of, kind="stable") + 1
    starts = random.integers(0, num_items - MAX_HISTORY, NUM_HISTORIES)
    lengths = random.integers(1, MAX_HISTORY, NUM_HISTORIES)
    save_histories([together[at : at + length] for at, length in zip(starts, lengths, strict=True)], directory)
    training = {"dataset": "generated", "data_content_hash": "", "exclude_seen": True}
    (directory / TRAINING_FILE).write_text(json.dumps(training))
    (directory / METRICS_FILE).write_text("{}")
    describe_release(directory)


async def tune(release: Release, directory: Path) -> None:
    index = QdrantEdgeIndex(directory / "qdrant")
    queries = verification_queries(release, load_histories(directory), NUM_CANDIDATES)
    target = RecallTarget.for_size(release.num_searchable)
    started = time.monotonic()
    tuned = await build_and_tune(index, release, partial(indexed_items, release), queries, NUM_CANDIDATES, target)
    print(f"{len(release.vocabulary):,} items of {EMBEDDING_DIM} dimensions in {time.monotonic() - started:.0f} s")
    print(f"chosen: {tuned.chosen} (exact: {tuned.exact.search_ms:.2f} ms; target {target.mean})")
    await index.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_model(directory, int(sys.argv[1]))
        asyncio.run(tune(Release.load(1, directory), directory))


if __name__ == "__main__":
    main()
