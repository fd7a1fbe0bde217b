"""Qdrant's thresholds, in KB of vectors, for indexing a collection in a graph and for scanning it instead."""

from dataclasses import dataclass

BYTES_PER_COMPONENT = 4
KB = 1024
MAX_UNINDEXED_KB = 1_000
UNINDEXED_SHARE = 1 / 20
MAX_FULL_SCAN_KB = 10_000
"""Qdrant's default."""
FULL_SCAN_SHARE = 1 / 2
MIN_FULL_SCAN_KB = 10
"""The smallest value that a server accepts."""


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """Thresholds for a collection of `num_vectors` vectors [embedding_dim], in one segment."""

    embedding_dim: int
    num_vectors: int

    @property
    def size_kb(self) -> int:
        return self.num_vectors * self.embedding_dim * BYTES_PER_COMPONENT // KB

    @property
    def indexing_threshold_kb(self) -> int:
        """Vectors that may stay outside the graph: few, because every search scans them."""
        return max(1, int(min(MAX_UNINDEXED_KB, self.size_kb * UNINDEXED_SHARE)))

    @property
    def full_scan_threshold_kb(self) -> int:
        """Qdrant scans if a filter leaves less than this.

        At most half of the collection, so that searches without a user's seen items still use the graph.
        """
        return max(MIN_FULL_SCAN_KB, int(min(MAX_FULL_SCAN_KB, self.size_kb * FULL_SCAN_SHARE)))

    @property
    def max_segment_kb(self) -> int:
        """Twice the collection, to keep it in one segment: one graph finds more per comparison than several."""
        return max(MAX_FULL_SCAN_KB, 2 * self.size_kb)

    @property
    def least_indexed(self) -> int:
        """The smallest number of vectors in a complete graph."""
        return max(0, self.num_vectors - self.indexing_threshold_kb * KB // (self.embedding_dim * BYTES_PER_COMPONENT))
