"""A recommendation request's whole way, top to bottom. Nothing else decides the order of the stages.

features -> encode -> retrieve -> rank -> rules; what each stage does when it fails stands in `recsys.stages`.
"""

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY
from recsys.contracts.features import PopularItem, UserFeatures
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recommendation import RecommendationAnswer, RecommendationList, RecommendationRequest, Tier
from recsys.contracts.retrieval import Candidate, CatalogueItem
from recsys.deadline import Deadline
from recsys.errors import ReleaseMismatch
from recsys.ports import CandidateIndex, Catalogue, FeatureStore, QueryEncoder, Ranker
from recsys.rules import ScoredItem, best_first, by_popularity, describe, pick
from recsys.stages import Stage, Trip


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Scored items, best first, before the rules."""

    ranked: list[ScoredItem]
    release: int | None
    described: dict[str, CatalogueItem]
    exclude: Collection[str] = ()
    """What must not be picked from it."""


class RecommendationPipeline:
    def __init__(
        self,
        features: FeatureStore,
        encoder: QueryEncoder,
        index: CandidateIndex,
        ranker: Ranker,
        catalogue: Catalogue,
        *,
        serving_release: Callable[[], int | None],
        num_candidates: int,
        deadline_seconds: float,
    ) -> None:
        self._features = features
        self._encoder = encoder
        self._index = index
        self._ranker = ranker
        self._catalogue = catalogue
        self._serving_release = serving_release
        self._num_candidates = num_candidates
        self._deadline_seconds = deadline_seconds
        self._last_popular: list[PopularItem] = []

    async def recommend(self, request: RecommendationRequest) -> RecommendationAnswer:
        trip = Trip(Deadline(self._deadline_seconds))

        user = await trip.attempt(Stage.FEATURES, self._features.user_features(request.user_id))
        user = user or UserFeatures.unknown(request.user_id)
        recent_items = [*user.recent_items, *request.session_items][-MAX_HISTORY:]
        if recent_items:
            trip.tier = Tier.PERSONALIZED  # a session makes up for features that are away
        else:
            trip.lower(Tier.POPULAR, "unknown_user")

        if request.candidate_items is not None:
            shortlist = await self._rank_given(trip, recent_items, request.candidate_items)
            considered = len(request.candidate_items)
            picked = pick(shortlist.ranked, set(request.exclude_items), request.top_k)
        else:
            seen = {*user.seen_items, *user.recent_items, *request.session_items}
            shortlist = await self._retrieve_and_rank(trip, recent_items, seen, set(request.exclude_items))
            considered = len(shortlist.ranked)
            picked = pick(shortlist.ranked, shortlist.exclude, request.top_k)
            if len(picked) < request.top_k and trip.tier in (Tier.PERSONALIZED, Tier.RETRIEVED):
                picked = await self._backfill(trip, picked, shortlist.exclude, request.top_k)

        described = await self._describe(trip, picked, shortlist)
        trip.timings_ms["total"] = round(trip.deadline.elapsed() * 1000, 3)
        return RecommendationAnswer(
            recommendation_id=uuid.uuid4().hex,
            user_id=request.user_id,
            recommendations=describe(picked, described),
            total_candidates=considered,
            tier=trip.tier,
            tier_reason=trip.reason,
            release=shortlist.release,
            timings_ms=trip.timings_ms,
        )

    async def popular(self, top_k: int) -> RecommendationList:
        """What everybody likes, for no one in particular."""
        trip = Trip(Deadline(self._deadline_seconds))
        shortlist = await self._popular(trip, exclude=())
        picked = pick(shortlist.ranked, (), top_k)
        described = await self._describe(trip, picked, shortlist)
        return RecommendationList(recommendations=describe(picked, described), release=shortlist.release)

    async def remember_popular(self) -> None:
        """Keep the popular items for the time when nothing else can be had; called every now and then."""
        self._last_popular = await self._features.popular(MAX_CANDIDATES) or self._last_popular

    async def _retrieve_and_rank(
        self, trip: Trip, recent_items: Sequence[str], seen: set[str], unwanted: set[str]
    ) -> Shortlist:
        """Candidates of the whole catalogue, ranked; the popular items where one of the steps before cannot be had.

        Whether seen items may come again is the release's policy; where that is not known they do not.
        """
        exclude = seen | unwanted
        if not recent_items:
            return await self._popular(trip, exclude)
        query = await trip.attempt(Stage.ENCODE, self._encoder.encode(recent_items))
        if query is None:
            return await self._popular(trip, exclude)
        if not query.exclude_seen:
            exclude = unwanted
        if query.query_embedding is None:
            trip.lower(Tier.POPULAR, "no_known_items")
            return await self._popular(trip, exclude)
        candidates = await trip.attempt(
            Stage.RETRIEVE,
            self._index.search(query.release, query.query_embedding, self._num_candidates, exclude),
        )
        if not candidates:
            trip.lower(Tier.POPULAR, "no_candidates")
            return await self._popular(trip, exclude)
        item_ids = [candidate.item.item_id for candidate in candidates]
        scores = await trip.attempt(Stage.RANK, self._rank_with(query.release, recent_items, item_ids))
        return Shortlist(
            ranked=best_first(item_ids, scores.scores) if scores else _by_similarity(candidates),
            release=query.release,
            described={candidate.item.item_id: candidate.item for candidate in candidates},
            exclude=exclude,
        )

    async def _rank_given(self, trip: Trip, recent_items: Sequence[str], candidate_items: Sequence[str]) -> Shortlist:
        """The caller's own candidates, ranked; by popularity where the ranker cannot be had."""
        scores = await trip.attempt(Stage.RANK, self._ranker.rank(recent_items, candidate_items))
        if scores is None:
            trip.tier = Tier.POPULAR  # not `retrieved`: nothing was
            popular = await self._popular_items(trip, Stage.POPULAR, MAX_CANDIDATES)
            return Shortlist(by_popularity(candidate_items, popular), self._serving_release(), {})
        if not scores.personalized:
            trip.lower(Tier.POPULAR, "no_known_items")
        return Shortlist(best_first(candidate_items, scores.scores), scores.release, {})

    async def _rank_with(self, release: int, recent_items: Sequence[str], item_ids: Sequence[str]) -> RankedScores:
        scores = await self._ranker.rank(recent_items, item_ids, release)
        if scores.release != release:
            raise ReleaseMismatch(f"candidates of release {release} came back with scores of {scores.release}")
        return scores

    async def _popular(self, trip: Trip, exclude: Collection[str]) -> Shortlist:
        popular = await self._popular_items(trip, Stage.POPULAR, self._num_candidates + len(exclude))
        ranked = [ScoredItem(item.item_id, item.popularity) for item in popular]
        return Shortlist(ranked, self._serving_release(), {}, exclude)

    async def _popular_items(self, trip: Trip, stage: Stage, depth: int) -> list[PopularItem]:
        """The popular items of now or, where the feature store is away, the last that were seen."""
        popular = await trip.attempt(stage, self._features.popular(min(MAX_CANDIDATES, depth)))
        return self._last_popular if popular is None else popular

    async def _backfill(
        self, trip: Trip, picked: list[ScoredItem], exclude: Collection[str], top_k: int
    ) -> list[ScoredItem]:
        """Popular items below the picked ones, without a score, as theirs would not compare."""
        popular = await self._popular_items(trip, Stage.BACKFILL, top_k + len(exclude) + len(picked))
        return pick([*picked, *(ScoredItem(item.item_id, None) for item in popular)], exclude, top_k)

    async def _describe(
        self, trip: Trip, picked: Sequence[ScoredItem], shortlist: Shortlist
    ) -> dict[str, CatalogueItem]:
        """Titles and metadata of the picked items; only what retrieval did not bring along is looked up."""
        missing = [item.item_id for item in picked if item.item_id not in shortlist.described]
        if not missing or shortlist.release is None:
            return shortlist.described
        looked_up = await trip.attempt(Stage.DESCRIBE, self._catalogue.items(shortlist.release, missing))
        return {**shortlist.described, **(looked_up or {})}


def _by_similarity(candidates: Sequence[Candidate]) -> list[ScoredItem]:
    return [ScoredItem(candidate.item.item_id, candidate.similarity) for candidate in candidates]
