"""The interfaces of everything the pipeline calls. Each port has an adapter in this process and remote ones.

Every method raises `recsys.errors.UpstreamError` if the technology behind it fails, and `ReleaseError` if the requested
data belongs to a different release or to no release.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from recsys.contracts.activity import ActiveDay, DayActivity
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds
from recsys.contracts.event_log import ImpressionBatch, ImpressionsAppended
from recsys.contracts.events import Event, RecordedEvents
from recsys.contracts.features import PopularItem, PrecomputedList, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.release_report import ReleasesReport
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
        """The user's features; `known=False` if there are none."""

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        """Which of these items the user has seen, also those that `user_features` leaves out (`more_seen`)."""

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:
        """The user's list by that release, otherwise the newest list by an older release; None without either."""

    async def record(
        self, events: Sequence[Event], known_items: Collection[str], kinds: EventKinds = DEFAULT_KINDS
    ) -> RecordedEvents:
        """Append events, each exactly once. `user_features` includes them as soon as this returns, and so does the log.

        `kinds` says which of them are part of the history, count as seen, or say that the user does not want the item.

        `known_items` are those of the events' items that the serving catalogue has. Events of other items are kept in
        the user's history and do not change the popular items. Raises `StorageFull` if there is no room for the events.
        """

    async def popular(self, top_k: int) -> list[PopularItem]:
        """The most popular items, best first."""


class EventLog(Protocol):
    """The log of what was shown. `FeatureStore.record` writes the log of what users did."""

    async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
        """Append impressions, a batch with the same id once. Raises `StorageFull` if the log has no room."""


class ItemActivity(Protocol):
    """How often items were used lately, from the events that `FeatureStore.record` took."""

    async def active_days(self) -> list[ActiveDay]:
        """The days with events, oldest first: today and at most ACTIVITY_DAYS before it."""

    async def day_activity(self, day: int) -> DayActivity | None:
        """The uses of items in a day; None if it has no events."""


class ReleaseReports(Protocol):
    """What users did with the recommendations of each release."""

    async def releases(self) -> ReleasesReport:
        """The last report; an empty one before the first."""


class QueryEncoder(Protocol):
    async def encode(
        self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
    ) -> QueryEmbedding:
        """The query embedding of recent items (newest last), from the given release or the champion.

        `unseen_items` are those of them that do not count as seen, so that they may be candidates.
        """


class ReleaseSource(Protocol):
    async def releases(self) -> ServingReleases:
        """The releases that can be requested now."""

    async def item_lines(self, release_version: int) -> bytes | bytearray:
        """The release's items file: a JSON object per line, line n for item_index n."""


class Ranker(Protocol):
    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        """Scores for the candidates, in their order, and which of them are near the disliked items.

        Without recent items the scores are popularity.
        """


class RecallReference(Protocol):
    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        """The recall of a retrieval against exact search. Raises `Overloaded` while another measurement runs."""


class Catalogue(Protocol):
    async def items(self, release_version: int | None, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        """The requested items that the release has, by id; None means the most recently loaded release.

        Raises `ReleaseNotLoaded` if the release is not loaded, or if none is.
        """

    @property
    def newest_item_ids(self) -> Sequence[str]:
        """All items of the most recently loaded release by item_index, which is their order of popularity in training.

        Empty if no release is loaded.
        """


class VectorIndex(Protocol):
    """The candidate embeddings, in one collection per release.

    A collection is built, opened and verified in `staging()`, and then published. Services open published collections.
    """

    async def open(self, release_version: int, item_ids: Sequence[str], settings: SearchSettings) -> None:
        """Prepare a release for searches. Opening it again is cheap and applies new settings.

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
        """The nearest items by dot product, best first, without the excluded ones.

        `settings` override the settings that the release was opened with.
        """

    async def similar(self, release_version: int, item_id: str, top_k: int) -> list[Candidate]:
        """The items with the highest cosine similarity to an item, without the item itself. Raises `UnknownItem`."""

    async def find_by_title(self, release_version: int, query: str, limit: int) -> list[str]:
        """Ids of items whose titles contain every word of the query, in any order and case."""

    async def status(self, release_version: int) -> CollectionStatus:
        """How much of an open release's collection is indexed."""

    async def close(self) -> None:
        """Close all collections and connections."""

    def staging(self) -> "VectorIndex":
        """The index of the collections that are not served yet. It is closed together with this one."""

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
        """Write a release's collection, replacing an existing one. Returns when the graph covers the collection.

        `num_vectors` of the items have an embedding. Without `graph` no graph is built. `progress` is called with the
        number of vectors in the graph while the engine builds it. Raises `JobError` if that takes longer than
        `timeout_seconds`, which by default grows with `num_items`.
        """

    async def holds(self, release_version: int, weights_hash: str, num_items: int) -> bool:
        """Whether the index has the release's complete collection, built from these weights."""

    async def publish(self, release_version: int) -> None:
        """Serve the collection that was built in `staging()`. If that fails, the previous one is still served."""

    async def drop(self, release_version: int) -> None:
        """Delete a release's collection, if it exists."""

    async def collections(self) -> list[int]:
        """The versions that have a collection, ascending."""
