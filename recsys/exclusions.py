"""The items that a response must not contain."""

from collections.abc import Callable, Coroutine, Iterable, Sequence, Set
from functools import partial
from typing import Any, Self

from recsys.contracts.features import UserFeatures
from recsys.contracts.recommendation import RecommendationRequest
from recsys.contracts.retrieval import QueryEmbedding
from recsys.ports import FeatureStore
from recsys.stages import RequestRun, Stage

SeenAmong = Callable[[Sequence[str]], Coroutine[Any, Any, set[str]]]


class Exclusions:
    """The excluded items that are known from the start, and those that are found out to be seen.

    A user's features contain the newest seen items only, so that a long history costs no more than a short one. Whether
    the user has seen an item before those is looked up when it may be shown.
    """

    def __init__(self, item_ids: Set[str] = frozenset(), seen_among: SeenAmong | None = None) -> None:
        """`seen_among` finds seen items that `item_ids` lacks; None if it lacks none."""
        self.item_ids = item_ids
        self._seen_among = seen_among
        self._looked_up: set[str] = set()
        self._seen_before: set[str] = set()

    @classmethod
    def of(
        cls, request: RecommendationRequest, user: UserFeatures, query: QueryEmbedding | None, features: FeatureStore
    ) -> Self:
        """What the caller excludes, and what the user has seen, unless the release may recommend that again."""
        if query and not query.exclude_seen:
            return cls(set(request.exclude_items))
        seen = {*user.seen_items, *user.recent_items, *request.session_items}
        seen_among = partial(features.seen_among, user.user_id) if user.more_seen else None
        return cls(seen.union(request.exclude_items), seen_among)

    @property
    def complete(self) -> bool:
        """Whether `item_ids` contains everything that is excluded."""
        return self._seen_among is None

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.item_ids or item_id in self._seen_before

    async def look_up(self, run: RequestRun, item_ids: Iterable[str]) -> None:
        """Exclude those of these items that the user has seen. If the stage fails, they count as unseen."""
        if self._seen_among is None:
            return
        new = [item_id for item_id in item_ids if item_id not in self._looked_up and item_id not in self.item_ids]
        if new:
            self._looked_up.update(new)
            seen = await run.run_stage(Stage.SEEN, self._seen_among(new))
            self._seen_before |= seen or set()
