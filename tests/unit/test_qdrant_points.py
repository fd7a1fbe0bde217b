"""Point ids and their mapping to items, search parameters, and the thresholds of a graph."""

from typing import Any

import numpy as np
import pytest

from recsys.adapters.graph_layout import GraphLayout
from recsys.adapters.qdrant_points import PointIds, collection_name, nearest_by_angle, point_id, version_in
from recsys.errors import UpstreamAnswerInvalid

IDS = [f"item {number}" for number in range(1000)] + ["übergröße 🚀", "a\0b", "?#%2F"]


def test_point_ids_are_the_same_on_every_machine_and_fit_what_qdrant_takes() -> None:
    assert point_id("i1") == 6274938697654265733
    assert all(0 <= point_id(item_id) < 2**63 for item_id in IDS)
    assert len({point_id(str(number)) for number in range(100_000)}) == 100_000


def test_points_are_mapped_to_items_in_order() -> None:
    some = IDS[::-7]
    assert PointIds(IDS).item_ids_of([point_id(item_id) for item_id in some]) == some
    assert PointIds(IDS).item_ids_of([point_id("a\0b")] * 2) == ["a\0b"] * 2
    assert PointIds(IDS).item_ids_of([]) == []


@pytest.mark.parametrize("unknown", [0, 2**63 - 1, 2**64 - 1, point_id("unknown")])
def test_an_unknown_point_is_an_error(unknown: Any) -> None:
    with pytest.raises(UpstreamAnswerInvalid, match="1 points"):
        PointIds(IDS).item_ids_of([point_id(IDS[0]), unknown])
    with pytest.raises(UpstreamAnswerInvalid):
        PointIds([]).item_ids_of([unknown])


def test_items_are_mapped_to_their_points_and_unknown_ones_are_left_out() -> None:
    assert PointIds(IDS).points_of(["item 7", "unknown", "a\0b"]) == [point_id("item 7"), point_id("a\0b")]
    assert PointIds(IDS).points_of([]) == []
    assert PointIds([]).points_of(["item 7"]) == []


def test_the_mapping_takes_32_bytes_per_item() -> None:
    assert PointIds(IDS).nbytes == 32 * len(IDS)


def test_only_collections_of_releases_have_a_version() -> None:
    assert version_in(collection_name(37)) == 37
    for other in ("items_v", "items_v0", "items_v03", "items_v3_old", "staging", "my_items_v3", "items_v-1"):
        assert version_in(other) is None


def test_nearest_by_angle_ignores_length_and_bias() -> None:
    vectors = [[1.0, 0.1, 9.0], [100.0, 100.0, 0.0], [0.0, 0.0, 5.0], [-1.0, 0.0, 9.0]]
    rows, cosines = nearest_by_angle([2.0, 0.0, -3.0], vectors, 4)
    assert rows == [0, 1, 2, 3]
    assert cosines == pytest.approx([0.995, 0.707, 0.0, -1.0], abs=1e-3)
    assert nearest_by_angle([1.0, 0.0], [], 3) == ([], [])


@pytest.mark.parametrize(("num_items", "embedding_dim"), [(1, 1), (150, 12), (2_000, 64), (54_542, 128), (10**6, 128)])
def test_few_vectors_stay_outside_a_graph_and_exclusions_do_not_cause_scans(num_items: int, embedding_dim: int) -> None:
    layout = GraphLayout(embedding_dim, num_items)
    size_kb = num_items * embedding_dim * 4 / 1024
    assert 1 <= layout.indexing_threshold_kb <= max(1, min(1_000, size_kb / 20))
    assert layout.least_indexed >= num_items * 0.95 - 1024 / 4 / embedding_dim
    assert layout.full_scan_threshold_kb <= max(10, size_kb / 2)
    assert layout.max_segment_kb > size_kb


def test_thresholds_of_a_large_graph_are_capped() -> None:
    assert GraphLayout(128, 10**6).full_scan_threshold_kb == 10_000
    assert np.isclose(GraphLayout(128, 10**6).indexing_threshold_kb, 1_000)
