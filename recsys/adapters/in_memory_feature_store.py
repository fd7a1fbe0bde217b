"""The ports FeatureStore and ItemActivity in this process's memory, for tests, notebooks and demos."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from recsys import clock
from recsys.contracts.activity import ACTIVITY_DAYS, ActiveDay, DayActivity, day_of, weights_in_day
from recsys.contracts.base import MAX_DISLIKED, MAX_HISTORY
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds, KindMeaning
from recsys.contracts.event_log import LoggedEvent
from recsys.contracts.events import Event, RecordedEvents
from recsys.contracts.features import SHIPPED_SEEN, PopularItem, PrecomputedList, UserFeatures
from recsys.steps import latest_steps

HALF_LIFE_SECONDS = 30 * 86_400.0


class InMemoryFeatureStore:
    def __init__(self) -> None:
        self.logged: list[LoggedEvent] = []
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._event_ids: set[tuple[str, str]] = set()
        self._contents: set[tuple[str, str, str, int]] = set()
        self._seen: dict[str, dict[str, float]] = defaultdict(dict)
        self._disliked: dict[str, dict[str, float]] = defaultdict(dict)
        """Both by user and item: the time of the last such event."""
        self._counted: dict[str, dict[str, float]] = defaultdict(dict)
        """By item and user: the time of the user's last event with it."""
        self._uses: dict[int, list[tuple[str, int]]] = defaultdict(list)
        """By day: items and seconds."""

    async def user_features(self, user_id: str) -> UserFeatures:
        item_ids = [event.item_id for event in self._events.get(user_id, [])]
        seen = _by_time(self._seen.get(user_id, {}))
        return UserFeatures(
            user_id=user_id,
            known=bool(item_ids),
            recent_items=latest_steps(item_ids, MAX_HISTORY),
            seen_items=seen[-SHIPPED_SEEN:],
            disliked_items=_by_time(self._disliked.get(user_id, {})),
            more_seen=len(seen) > SHIPPED_SEEN,
            attributes={},
        )

    async def seen_among(self, user_id: str, item_ids: Sequence[str]) -> set[str]:
        return self._seen.get(user_id, {}).keys() & set(item_ids)

    async def precomputed(self, user_id: str, release_version: int) -> PrecomputedList | None:  # noqa: ARG002
        return None  # a batch job writes the lists, and it has no store in memory

    async def record(
        self, events: Sequence[Event], known_items: Collection[str], kinds: EventKinds = DEFAULT_KINDS
    ) -> RecordedEvents:
        now = clock.now()  # an event in the future counts as one of now
        clipped = [event.model_copy(update={"timestamp": min(event.timestamp, now)}) for event in events]
        new = [self._record(event, event.item_id in known_items, kinds.of(event.event)) for event in clipped]
        recorded = (event for event, is_new in zip(events, new, strict=True) if is_new)
        self.logged += [LoggedEvent.of(event, now, kinds.of(event.event)) for event in recorded]
        return RecordedEvents(new=new)

    async def popular(self, top_k: int) -> list[PopularItem]:
        now = clock.now()
        sums = {
            item_id: sum(2 ** ((last_event - now) / HALF_LIFE_SECONDS) for last_event in by_user.values())
            for item_id, by_user in self._counted.items()
        }
        best = sorted(sums.items(), key=lambda pair: -pair[1])[:top_k]
        return [PopularItem(item_id=item_id, popularity=popularity) for item_id, popularity in best]

    async def active_days(self) -> list[ActiveDay]:
        return [ActiveDay(day=day, events=len(uses)) for day, uses in sorted(self._uses.items())]

    async def day_activity(self, day: int) -> DayActivity | None:
        uses = sorted(self._uses.get(day, []), key=lambda use: use[1])
        if not uses:
            return None
        first = dict(reversed(uses))
        of_item = {item_id: [weights_in_day(second) for used, second in uses if used == item_id] for item_id in first}
        return DayActivity(
            day=day,
            events=len(uses),
            first=uses[0][1],
            last=uses[-1][1],
            totals=_sums(weights_in_day(second) for _, second in uses),
            item_ids=list(first),
            item_first=list(first.values()),
            weights=[list(sums) for sums in zip(*(_sums(weights) for weights in of_item.values()), strict=True)],
        )

    def _record(self, event: Event, known: bool, meaning: KindMeaning) -> bool:
        """Whether the event is new."""
        user_id, item_id = event.user_id, event.item_id
        event_id, content = (user_id, event.event_id), (user_id, item_id, event.event, int(event.timestamp))
        if event_id in self._event_ids or (meaning.in_history and content in self._contents):
            return False
        self._event_ids.add(event_id)
        if meaning.in_history:
            self._contents.add(content)
            self._events[user_id].append(event)
            self._events[user_id].sort(key=lambda each: each.timestamp)  # stable: ties keep the order of arrival
        if meaning.marks_seen:
            _keep_last(self._seen[user_id], event)
        if meaning.negative:
            disliked = self._disliked[user_id]
            _keep_last(disliked, event)
            for forgotten in _by_time(disliked)[:-MAX_DISLIKED]:
                del disliked[forgotten]
        if known and meaning.marks_seen:
            last_events = self._counted[item_id]
            last_events[user_id] = max(last_events.get(user_id, 0.0), event.timestamp)
        recent = day_of(event.timestamp) >= day_of(clock.now()) - ACTIVITY_DAYS
        if known and recent and meaning.in_history and self._begins_step(event):
            self._uses[day_of(event.timestamp)].append((item_id, int(event.timestamp)))
        return True

    def _begins_step(self, event: Event) -> bool:
        """Whether the user's events beside it are with other items."""
        events = self._events[event.user_id]
        place = next(place for place, each in enumerate(events) if each is event)
        beside = [*events[max(0, place - 1) : place], *events[place + 1 : place + 2]]
        return all(other.item_id != event.item_id for other in beside)


def _sums(weights: Iterable[tuple[float, ...]]) -> list[float]:
    """By half-life."""
    return [sum(column) for column in zip(*weights, strict=True)]


def _keep_last(times: dict[str, float], event: Event) -> None:
    times[event.item_id] = max(times.get(event.item_id, 0.0), event.timestamp)


def _by_time(times: dict[str, float]) -> list[str]:
    """The items, oldest first."""
    return sorted(times, key=lambda item_id: (times[item_id], item_id))
