"""The port FeatureStore in this process's memory, for tests, notebooks and demos."""

import time
from collections import defaultdict
from collections.abc import Collection, Sequence

from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.events import Event, RecordedEvents
from recsys.contracts.features import SHIPPED_SEEN, PopularItem, PrecomputedList, UserFeatures


class InMemoryFeatureStore:
    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._event_ids: set[tuple[str, str]] = set()
        self._popularity: dict[str, float] = defaultdict(float)

    async def user_features(self, user_id: str) -> UserFeatures:
        item_ids = [event.item_id for event in self._events.get(user_id, [])]
        seen = list(dict.fromkeys(reversed(item_ids)))[::-1]
        return UserFeatures(
            user_id=user_id,
            known=bool(item_ids),
            recent_items=item_ids[-MAX_HISTORY:],
            seen_items=seen[-SHIPPED_SEEN:],
            more_seen=len(seen) > SHIPPED_SEEN,
            attributes={},
        )

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        return {event.item_id for event in self._events.get(user_id, [])}.intersection(item_ids)

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:  # noqa: ARG002
        return None  # a batch job writes the lists, and it has no store in memory

    async def record(self, events: Sequence[Event], known_items: Collection[str]) -> RecordedEvents:
        new = []
        for event in events:
            new.append((event.user_id, event.event_id) not in self._event_ids)
            if not new[-1]:
                continue
            self._event_ids.add((event.user_id, event.event_id))
            timestamp = min(event.timestamp, time.time())  # an event in the future counts as one of now
            self._events[event.user_id].append(event.model_copy(update={"timestamp": timestamp}))
            self._events[event.user_id].sort(key=lambda each: each.timestamp)  # stable: ties keep the order of arrival
            if event.item_id in known_items:
                self._popularity[event.item_id] += 1.0
        return RecordedEvents(new=new)

    async def popular(self, top_k: int) -> list[PopularItem]:
        best = sorted(self._popularity.items(), key=lambda pair: -pair[1])[:top_k]
        return [PopularItem(item_id=item_id, popularity=popularity) for item_id, popularity in best]
