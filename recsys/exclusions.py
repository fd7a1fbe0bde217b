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


def seen_items(request: RecommendationRequest, user: UserFeatures) -> set[str]:
    """What is known to be seen. The items of a session have no kinds, so all of them count."""
    return {*user.seen_items, *request.session_items}


class Exclusions:
    """The excluded items that are known from the start, and those that are found out later.

    A user's features contain the newest seen items only, so that a long history costs no more than a short one. Whether
    the user has seen an item before those is looked up when it may be shown.
    """

    def __init__(
        self,
        item_ids: Set[str] = frozenset(),
        seen_among: SeenAmong | None = None,
        *,
        disliked: Sequence[str] = (),
    ) -> None:
        """`seen_among` finds seen items that `item_ids` lacks; None if it lacks none. The near neighbours of `disliked`
        items are to be excluded as well."""
        self.item_ids = item_ids
        self.disliked = disliked
        self._seen_among = seen_among
        self._looked_up: set[str] = set()
        self._found_later: set[str] = set()

    @classmethod
    def of(
        cls, request: RecommendationRequest, user: UserFeatures, query: QueryEmbedding | None, features: FeatureStore
    ) -> Self:
        """What the caller excludes, what the user does not want, and what the user has seen, unless the release may
        recommend that again."""
        disliked = user.disliked_items
        if query and not query.exclude_seen:
            return cls({*request.exclude_items, *disliked}, disliked=disliked)
        seen_among = partial(features.seen_among, user.user_id) if user.more_seen else None
        item_ids = seen_items(request, user).union(request.exclude_items, disliked)
        return cls(item_ids, seen_among, disliked=disliked)

    @property
    def complete(self) -> bool:
        """Whether `item_ids` contains everything that is excluded."""
        return self._seen_among is None

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.item_ids or item_id in self._found_later

    def add(self, item_ids: Iterable[str]) -> None:
        self._found_later.update(item_ids)

    async def look_up(self, run: RequestRun, item_ids: Iterable[str]) -> None:
        """Exclude those of these items that the user has seen. If the stage fails, they count as unseen."""
        if self._seen_among is None:
            return
        new = [item_id for item_id in item_ids if item_id not in self._looked_up and item_id not in self.item_ids]
        if new:
            self._looked_up.update(new)
            seen = await run.run_stage(Stage.SEEN, self._seen_among(new))
            self.add(seen or ())
