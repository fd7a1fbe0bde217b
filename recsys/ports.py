"""What the pipeline asks of the world. Every port has a local adapter that does the work and remote ones.

Every method raises `recsys.errors.UpstreamError` where the technology behind it fails, and `ReleaseError` where
what it was asked for belongs to another release or to none.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from recsys.contracts.events import Event, EventsRecorded
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.retrieval import (
    Candidate,
    CatalogueItem,
    CollectionStatus,
    GraphSettings,
    IndexedItem,
    QueryEmbedding,
    SearchSettings,
    ServingReleases,
)


class FeatureStore(Protocol):
    async def user_features(self, user_id: str) -> UserFeatures:
        """What is known of the user; `known=False` where that is nothing."""

    async def record(self, events: Sequence[Event]) -> EventsRecorded:
        """Append events, each once; a `user_features` after the answer shows them."""

    async def popular(self, top_k: int) -> list[PopularItem]:
        """The most popular items, best first."""


class QueryEncoder(Protocol):
    async def encode(self, recent_items: Sequence[str], release_version: int | None = None) -> QueryEmbedding:
        """The query embedding of recent items (newest last), by the champion or by the release that is asked for."""


class ReleaseSource(Protocol):
    async def releases(self) -> ServingReleases:
        """Which releases can be asked for now."""

    async def item_lines(self, release_version: int) -> bytes | bytearray:
        """The release's items file: a JSON object per line, line n for item_index n."""


class Ranker(Protocol):
    async def rank(
        self, recent_items: Sequence[str], candidate_items: Sequence[str], release_version: int | None = None
    ) -> RankedScores:
        """Scores for the candidates, in their order; without recent items by popularity alone."""


class RecallReference(Protocol):
    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        """How much of what exact search finds a retrieval has found. Raises `Overloaded` while it measures another."""


class Catalogue(Protocol):
    async def items(self, release_version: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        """The described items among those asked for."""


class VectorIndex(Protocol):
    """The candidate embeddings of each release, in a collection per release.

    A release is built in `staging()`, opened and verified there, and then published. Serving opens what is published.
    """

    async def open(self, release_version: int, item_ids: Sequence[str], settings: SearchSettings) -> None:
        """Get a release ready to be searched. Opening it again is cheap, and takes up new settings.

        Raises `ReleaseNotLoaded` if it has no collection.
        """

    async def search(
        self,
        release_version: int,
        query_embedding: Sequence[float],
        num_candidates: int,
        exclude: Collection[str] = (),
        settings: SearchSettings | None = None,
    ) -> list[Candidate]:
        """The nearest items by dot product, best first, without the excluded.

        `settings` replace those that the release was opened with.
        """

    async def similar(self, release_version: int, item_id: str, top_k: int) -> list[Candidate]:
        """The items nearest in angle to an item, without itself. Raises `UnknownItem`."""

    async def find_by_title(self, release_version: int, query: str, limit: int) -> list[str]:
        """Ids of items whose titles hold every word of the query, in any order and case."""

    async def status(self, release_version: int) -> CollectionStatus:
        """How much of an open release's collection is indexed."""

    async def close(self) -> None:
        """Let go of every collection and connection."""

    def staging(self) -> "VectorIndex":
        """The index of collections that are not served yet; closed together with this one."""

    async def build(
        self,
        release_version: int,
        *,
        embedding_dim: int,
        num_items: int,
        num_vectors: int,
        weights_hash: str,
        graph: GraphSettings | None,
        batches: Iterable[Sequence[IndexedItem]],
        progress: Callable[[int], None] = ...,
        timeout_seconds: float | None = None,
    ) -> None:
        """Write a release's collection, replacing any that is there; return once its graph covers it.

        `num_vectors` of the items have an embedding; without `graph` they are never indexed. `progress` gets the number
        of vectors in the graph while the engine builds it. Raises `JobError` if that takes longer than
        `timeout_seconds`, which by default grows with `num_items`.
        """

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:
        """Whether a release's collection is here, whole and made of these weights."""

    async def publish(self, release_version: int) -> None:
        """Serve the collection that was built in `staging()`: all of it or, after a failure, what was served before."""

    async def drop(self, release_version: int) -> None:
        """Delete a release's collection, if there is one."""

    async def collections(self) -> list[int]:
        """The versions that have a collection, ascending."""
