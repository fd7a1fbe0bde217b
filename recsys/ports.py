"""What the pipeline asks of the world. Every port has a local adapter that does the work and remote ones.

Every method raises `recsys.errors.UpstreamError` where the technology behind it fails, and `ReleaseError` where
what it was asked for belongs to another release or to none.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from recsys.contracts.events import Event, EventsRecorded
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.retrieval import Candidate, CatalogueItem, QueryEmbedding, ServingReleases


class FeatureStore(Protocol):
    async def user_features(self, user_id: str) -> UserFeatures:
        """What is known of the user; `known=False` where that is nothing."""

    async def record(self, events: Sequence[Event]) -> EventsRecorded:
        """Append events, each once; a `user_features` after the answer shows them."""

    async def popular(self, top_k: int) -> list[PopularItem]:
        """The most popular items, best first."""


class QueryEncoder(Protocol):
    async def encode(self, recent_items: Sequence[str], release: int | None = None) -> QueryEmbedding:
        """The query embedding of recent items (newest last), by the champion or by the release that is asked for."""

    async def releases(self) -> ServingReleases:
        """Which releases can be asked for now."""


class Ranker(Protocol):
    async def rank(
        self, recent_items: Sequence[str], candidate_items: Sequence[str], release: int | None = None
    ) -> RankedScores:
        """Scores for the candidates, in their order; without recent items by popularity alone."""


class CandidateIndex(Protocol):
    async def search(
        self, release: int, query_embedding: Sequence[float], num_candidates: int, exclude: Collection[str] = ()
    ) -> list[Candidate]:
        """The nearest items of that release's collection by dot product, best first, without the excluded."""

    async def similar(self, release: int, item_id: str, top_k: int) -> list[Candidate]:
        """The items nearest in angle to an item, without itself. Raises `UnknownItem`."""


class Catalogue(Protocol):
    async def items(self, release: int, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        """The described items among those asked for."""

    async def find_by_title(self, release: int, query: str, limit: int) -> list[CatalogueItem]:
        """Items whose titles hold every word of the query, in any order and case."""
