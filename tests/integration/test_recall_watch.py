"""Recall in the metrics: of a collection as built, and of one that has lost half its vectors."""

import asyncio
import re
import shutil
from pathlib import Path

import httpx
import pytest

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.model.release import Release
from tests import toy
from tests.conftest import Stack
from tests.engines import eventually, is_whole, local_settings, running
from training.indexing.build import indexed_items

USER = next(iter(toy.USERS))


async def lose_half(folder: Path, release: Release) -> None:
    """Publish the same collection without the vector of every second item."""
    index = QdrantEdgeIndex(folder)
    batches = [
        [each._replace(embedding=None) if number % 2 else each for number, each in enumerate(batch)]
        for batch in indexed_items(release)
    ]
    await index.staging().build(
        release.version,
        embedding_dim=toy.EMBEDDING_DIM,
        num_items=len(toy.ITEM_IDS),
        num_vectors=len(toy.ITEM_IDS) // 2,
        weights_hash=release.manifest.weights_hash,
        graph=None,
        batches=batches,
    )
    await index.publish(release.version)
    await index.close()


@pytest.mark.parametrize(("degraded", "least", "most"), [(False, 1.0, 1.0), (True, 0.4, 0.6)])
def test_a_collection_that_degrades_shows_in_the_metrics(
    stack: Stack, tmp_path: Path, degraded: bool, least: float, most: float
) -> None:
    own = local_settings(tmp_path)
    shutil.copytree(stack.settings.home / "qdrant", own.home / "qdrant")
    if degraded:
        asyncio.run(lose_half(own.home / "qdrant", Release.load(1, stack.model_dir)))
    environment = {"RANKER_URL": stack.settings.ranker_url, "ORCHESTRATOR_RECALL_SAMPLE": "1"}
    with running(own, "redis", "feature_service", "orchestrator", **environment):
        eventually(lambda: is_whole(own.orchestrator_url))
        with httpx.Client(base_url=own.orchestrator_url, timeout=30) as api:
            body = {"user_id": USER, "session_items": toy.ITEM_IDS[:3]}
            assert api.post("/v1/recommendations", json=body).raise_for_status().json()["tier"] == "personalized"
            eventually(lambda: metric(api, 'tandem_retrieval_recall_checks_total{outcome="measured"}') > 0)
            assert metric(api, 'tandem_retrieval_recall_count{release="1"}') == 1
            assert least <= metric(api, 'tandem_retrieval_recall_sum{release="1"}') <= most
            assert metric(api, 'tandem_retrieval_recall_checks_total{outcome="failed"}') == 0
            assert metric(api, 'tandem_collection_indexed{release="1"}') == 1


def metric(api: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", api.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0
