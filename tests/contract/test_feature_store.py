"""The contract of every feature store: in memory, in Redis, in a Redis Cluster, and over HTTP in front of Redis.

The activity of items is part of it.
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from local.settings import LocalSettings
from recsys.adapters.http_clients import HttpFeatureStore
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.adapters.redis_activity import RedisActivity
from recsys.adapters.redis_client import Client
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.contracts.activity import ACTIVITY_DAYS, DAY, HALF_LIVES, DayActivity, day_of
from recsys.contracts.base import MAX_DISLIKED, MAX_HISTORY, MAX_ID_LENGTH
from recsys.contracts.event_kinds import EventKinds, KindMeaning
from recsys.contracts.event_log import SCHEMA_VERSION, LoggedEvent, LogTable
from recsys.contracts.events import MAX_EVENTS, Event
from recsys.contracts.features import SHIPPED_SEEN, UserFeatures
from recsys.ports import FeatureStore, ItemActivity
from tests.contract.conftest import drained, emptied, redis_url

ODD_IDS = {
    "slash": "a/b",
    "only a slash": "/",
    "slash at the end": "a/",
    "like another path": "a/features",
    "one dot": ".",
    "two dots": "..",
    "path upwards": "../../etc/passwd",
    "space": "a b",
    "spaces around": " a ",
    "newline": "a\nb",
    "newline at the end": "a\n",
    "carriage return": "a\r\nb",
    "tab": "a\tb",
    "nul": "a\0b",
    "quotes": '"it\'s"',
    "backslash": "a\\b",
    "percent": "100%",
    "looks encoded": "a%2Fb",
    "plus": "a+b",
    "question mark and hash": "a?b=c#d",
    "semicolon and braces": "a;b{c}d",
    "umlaut": "Jürgen",
    "emoji": "👩\u200d🚀",
    "right to left": "משתמש",
    "longest": "x" * MAX_ID_LENGTH,
    "longest, four bytes each": "🚀" * MAX_ID_LENGTH,
    "looks like a number": "007",
    "looks like nothing": "null",
}


Logged = Callable[[], Awaitable[list[LoggedEvent]]]
"""The events that were logged since it was last called."""


@dataclass(frozen=True)
class Opened:
    store: FeatureStore
    activity: ItemActivity
    logged: Logged


@asynccontextmanager
async def in_memory(settings: LocalSettings) -> AsyncIterator[Opened]:
    store = InMemoryFeatureStore()

    async def logged() -> list[LoggedEvent]:
        return store.logged

    yield Opened(store, store, logged)


@asynccontextmanager
async def in_redis(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis:
        yield Opened(RedisFeatureStore(redis), RedisActivity(redis), lambda: events_in(redis))


@asynccontextmanager
async def in_cluster(url: str) -> AsyncIterator[Opened]:
    async with emptied(url) as redis:
        yield Opened(RedisFeatureStore(redis), RedisActivity(redis), lambda: events_in(redis))


@asynccontextmanager
async def over_http(settings: LocalSettings) -> AsyncIterator[Opened]:
    async with emptied(redis_url(settings)) as redis, HttpPool(settings.feature_service_url) as pool:
        store = HttpFeatureStore(pool)
        yield Opened(store, store, lambda: events_in(redis))


async def events_in(redis: Client) -> list[LoggedEvent]:
    return [LoggedEvent.model_validate_json(entry) for entry in await drained(redis, LogTable.EVENTS)]


ADAPTERS = {in_memory: None, in_redis: "feature_engines", in_cluster: "cluster_url", over_http: "feature_engines"}
"""By adapter: the fixture that it needs."""


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    fixture = ADAPTERS[request.param]
    async with request.param(fixture and request.getfixturevalue(fixture)) as opened:
        yield opened


@pytest.fixture
def store(opened: Opened) -> FeatureStore:
    return opened.store


@pytest.fixture
def logged(opened: Opened) -> Logged:
    return opened.logged


@pytest.fixture
def activity(opened: Opened) -> ItemActivity:
    return opened.activity


def view(item_id: str, at: float, user_id: str = "u", event_id: str | None = None) -> Event:
    return Event(event_id=event_id or uuid.uuid4().hex, user_id=user_id, item_id=item_id, event="view", timestamp=at)


async def recent(store: FeatureStore, user_id: str = "u") -> list[str]:
    return (await store.user_features(user_id)).recent_items


async def record(store: FeatureStore, events: Sequence[Event]) -> list[bool]:
    """Record events of items that the catalogue knows."""
    return (await store.record(events, {event.item_id for event in events})).new


async def test_an_unknown_user_has_no_features(store: FeatureStore) -> None:
    assert await store.user_features("unknown") == UserFeatures.unknown("unknown")


async def test_features_include_an_event_right_after_it_was_recorded(store: FeatureStore) -> None:
    assert await record(store, [view("a", 1)]) == [True]
    features = await store.user_features("u")
    assert (features.user_id, features.known) == ("u", True)
    assert features.recent_items == features.seen_items == ["a"]
    assert features.attributes == {}


async def test_recent_items_are_ordered_newest_last(store: FeatureStore) -> None:
    await record(store, [view("a", 1), view("b", 2)])
    await record(store, [view("c", 3)])
    assert await recent(store) == ["a", "b", "c"]


async def test_a_late_event_is_ordered_by_its_timestamp(store: FeatureStore) -> None:
    await record(store, [view("b", 20), view("d", 40)])
    await record(store, [view("c", 30)])
    await record(store, [view("a", 10)])
    assert await recent(store) == ["a", "b", "c", "d"]


async def test_events_with_equal_timestamps_keep_the_order_of_arrival(store: FeatureStore) -> None:
    await record(store, [view("z", 5), view("m", 5)])
    await record(store, [view("a", 5)])
    assert await recent(store) == ["z", "m", "a"]


async def test_fractions_of_a_second_count(store: FeatureStore) -> None:
    now = float(int(time.time())) - 10
    await record(store, [view("b", now + 0.0002), view("a", now + 0.0001)])
    assert await recent(store) == ["a", "b"]


async def test_an_event_in_the_future_counts_as_one_of_now(store: FeatureStore) -> None:
    await record(store, [view("future", time.time() + 10_000)])
    await record(store, [view("now", time.time())])
    await record(store, [view("past", time.time() - 10_000)])
    assert await recent(store) == ["past", "future", "now"]


async def test_only_the_newest_items_are_recent_and_all_are_seen(store: FeatureStore) -> None:
    items = [f"i{number:03d}" for number in range(MAX_HISTORY + 50)]
    await record(store, [view(item_id, at) for at, item_id in enumerate(items)])
    features = await store.user_features("u")
    assert features.recent_items == items[-MAX_HISTORY:]
    assert sorted(features.seen_items) == items


async def test_an_event_older_than_all_recent_ones_is_seen_but_not_recent(store: FeatureStore) -> None:
    items = [f"i{number % 2}" for number in range(MAX_HISTORY)]
    await record(store, [view(item_id, 100 + at) for at, item_id in enumerate(items)])
    await record(store, [view("ancient", 1)])
    features = await store.user_features("u")
    assert features.recent_items == items
    assert features.seen_items == ["ancient", "i0", "i1"]


async def test_a_repeated_item_is_recent_each_time_and_seen_once(store: FeatureStore) -> None:
    await record(store, [view("a", 1), view("b", 2), view("a", 3)])
    features = await store.user_features("u")
    assert features.recent_items == ["a", "b", "a"]
    assert features.seen_items == ["b", "a"]


async def test_events_with_one_item_in_a_row_are_one_step(store: FeatureStore) -> None:
    """As in training, and before the history is cut: a user who views, clicks and buys has a whole history."""
    steps = [f"i{number}" for number in range(MAX_HISTORY + 1)]
    events = [
        Event(user_id="u", item_id=item_id, event=kind, timestamp=100 * at + later)
        for at, item_id in enumerate(steps)
        for later, kind in enumerate(["view", "click", "purchase"])
    ]
    for start in range(0, len(events), 50):
        await record(store, events[start : start + 50])
    assert await recent(store) == steps[-MAX_HISTORY:]


async def test_a_late_event_splits_a_step(store: FeatureStore) -> None:
    await record(store, [view("a", 1), view("a", 3), view("a", 5), view("b", 6)])
    await record(store, [view("b", 2)])
    await record(store, [view("b", 4)])
    assert await recent(store) == ["a", "b", "a", "b", "a", "b"]


async def test_an_event_with_the_content_of_another_counts_once(store: FeatureStore) -> None:
    """Item, kind and second are the content, as in the training log: it has whole seconds, and drops repeated rows."""
    assert await record(store, [view("a", 100.25, event_id="e1"), view("a", 100.75, event_id="e2")]) == [True, False]
    assert await record(store, [view("a", 100.0, event_id="e3"), view("a", 101.0, event_id="e4")]) == [False, True]
    click = Event(user_id="u", item_id="a", event="click", timestamp=100.25)
    assert await record(store, [click, click.model_copy(update={"user_id": "v"})]) == [True, True]


async def test_an_event_without_an_id_is_recognized_by_its_timestamp(store: FeatureStore) -> None:
    sent = {"user_id": "u", "item_id": "a", "event": "view", "timestamp": 100.5}
    assert await record(store, [Event.model_validate(sent)]) == [True]
    assert await record(store, [Event.model_validate(sent)]) == [False]


async def test_only_the_newest_seen_items_are_shipped_and_the_others_can_be_asked_for(store: FeatureStore) -> None:
    items = [f"i{number}" for number in range(SHIPPED_SEEN + 5)]
    for start in range(0, len(items), MAX_EVENTS):
        await record(store, [view(items[at], at) for at in range(len(items))[start : start + MAX_EVENTS]])
    features = await store.user_features("u")
    assert features.seen_items == items[-SHIPPED_SEEN:]
    assert features.more_seen
    assert await store.seen_among("u", ["i0", "unknown", items[-1]]) == {"i0", items[-1]}
    assert await store.seen_among("u", []) == set()
    assert await store.seen_among("unknown", ["i0"]) == set()


async def test_with_few_seen_items_all_are_shipped(store: FeatureStore) -> None:
    await record(store, [view(f"i{at}", at) for at in range(SHIPPED_SEEN)])
    assert not (await store.user_features("u")).more_seen


async def test_an_item_that_the_catalogue_does_not_know_is_in_the_history_and_never_popular(
    store: FeatureStore,
) -> None:
    events = [view("invented", 1000 + number, f"u{number}") for number in range(300)] + [view("known", 1000)]
    await store.record(events, {"known"})
    assert [item.item_id for item in await store.popular(10)] == ["known"]
    assert await recent(store, "u7") == ["invented"]


async def test_one_user_makes_an_item_as_popular_as_one_event(store: FeatureStore) -> None:
    now = time.time()
    await record(store, [view("liked by two", now, user_id) for user_id in ("u", "v")])
    pushed = [view("pushed by one", now - 3600 * hours, "w") for hours in range(400)]
    await record(
        store, [*pushed, *reversed(pushed), *(view("pushed by one", now - 10_000_000 - at, "w") for at in range(90))]
    )
    popular = await store.popular(10)
    assert [item.item_id for item in popular] == ["liked by two", "pushed by one"]
    assert popular[0].popularity == pytest.approx(2 * popular[1].popularity)


KINDS = EventKinds(
    {
        "view": KindMeaning(seen=False),
        "impression": KindMeaning(weight=0, seen=False),
        "dislike": KindMeaning(negative=True),
    }
)


def of_kind(kind: str, item_id: str, at: float, event_id: str = "") -> Event:
    given = {"event_id": event_id} if event_id else {}
    return Event(user_id="u", item_id=item_id, event=kind, timestamp=at, **given)


async def test_the_meaning_of_a_kind_decides_what_an_event_does(store: FeatureStore, logged: Logged) -> None:
    events = [
        of_kind("view", "viewed", 1),
        of_kind("purchase", "bought", 2),
        of_kind("impression", "shown", 3),
        of_kind("dislike", "bad", 4),
        of_kind("view", "bought", 5),
    ]
    recorded = await store.record(events, {event.item_id for event in events}, KINDS)
    features = await store.user_features("u")
    assert recorded.new == [True] * 5
    assert features.recent_items == ["viewed", "bought"]
    assert features.seen_items == ["bought"]
    assert features.disliked_items == ["bad"]
    assert await store.seen_among("u", ["viewed", "bought", "shown", "bad"]) == {"bought"}
    assert [item.item_id for item in await store.popular(10)] == ["bought"]
    assert {event.item_id for event in await logged()} == {"viewed", "bought", "shown", "bad"}


async def test_an_item_that_is_viewed_and_bought_counts_as_seen(store: FeatureStore) -> None:
    await store.record([of_kind("view", "a", 1)], set(), KINDS)
    await store.record([of_kind("purchase", "a", 2)], set(), KINDS)
    features = await store.user_features("u")
    assert (features.recent_items, features.seen_items) == (["a"], ["a"])


async def test_a_dislike_between_two_views_of_an_item_does_not_split_the_step(store: FeatureStore) -> None:
    events = [of_kind("view", "a", 1), of_kind("dislike", "b", 2), of_kind("view", "a", 3)]
    await store.record(events, set(), KINDS)
    assert await recent(store) == ["a"]


async def test_dislikes_are_kept_by_time_and_bounded(store: FeatureStore) -> None:
    events = [of_kind("dislike", f"i{at:03d}", at) for at in range(MAX_DISLIKED + 5)]
    await store.record([*reversed(events), of_kind("dislike", "i007", 1000)], set(), KINDS)
    disliked = (await store.user_features("u")).disliked_items
    assert disliked == [*(f"i{at:03d}" for at in range(5, MAX_DISLIKED + 5) if at != 7), "i007"]


async def test_a_dislike_that_is_sent_again_is_a_duplicate(store: FeatureStore) -> None:
    sent = [of_kind("dislike", "a", 1, "e1")]
    assert (await store.record(sent, set(), KINDS)).new == [True]
    assert (await store.record(sent, set(), KINDS)).new == [False]
    assert not (await store.user_features("u")).known


async def test_there_is_no_precomputed_list_before_one_is_stored(store: FeatureStore) -> None:
    assert await store.precomputed("u", 3) is None


async def test_an_event_that_is_sent_again_counts_once(store: FeatureStore) -> None:
    event = view("a", 1, event_id="e1")
    assert await record(store, [event]) == [True]
    before = [item.popularity for item in await store.popular(10)]
    assert await record(store, [event]) == [False]
    assert await recent(store) == ["a"]
    assert [item.popularity for item in await store.popular(10)] == pytest.approx(before, rel=1e-3)


async def test_an_event_that_is_twice_in_a_batch_counts_once(store: FeatureStore) -> None:
    event = view("a", 1, event_id="e1")
    assert await record(store, [event, view("b", 2), event]) == [True, True, False]
    assert await recent(store) == ["a", "b"]


async def test_the_first_event_with_an_event_id_is_kept(store: FeatureStore) -> None:
    await record(store, [view("a", 1, event_id="e1")])
    await record(store, [view("b", 2, event_id="e1")])
    assert await recent(store) == ["a"]


async def test_two_users_may_have_events_with_the_same_id(store: FeatureStore) -> None:
    events = [view("a", 1, "ann", "e1"), view("b", 1, "bob", "e1")]
    assert await record(store, events) == [True, True]


async def test_a_batch_may_contain_several_users_in_any_order(store: FeatureStore) -> None:
    events = [
        view("a1", 1, "ann"),
        view("b1", 1, "bob"),
        view("a2", 2, "ann"),
        view("c1", 1, "cleo"),
        view("b2", 0, "bob"),
    ]
    assert await record(store, events) == [True] * 5
    assert await recent(store, "ann") == ["a1", "a2"]
    assert await recent(store, "bob") == ["b2", "b1"]
    assert await recent(store, "cleo") == ["c1"]


async def test_the_largest_batch_is_recorded_whole(store: FeatureStore) -> None:
    events = [view(f"i{number}", number, f"u{number % 7}") for number in range(MAX_EVENTS)]
    assert await record(store, events) == [True] * MAX_EVENTS
    assert await recent(store, "u3") == [f"i{number}" for number in range(3, MAX_EVENTS, 7)]


async def test_popular_items_are_ordered_best_first(store: FeatureStore) -> None:
    now = time.time()
    views = {"much": 3, "some": 2, "little": 1}
    await record(store, [view(item_id, now, f"u{n}") for item_id, count in views.items() for n in range(count)])
    popular = await store.popular(10)
    assert [item.item_id for item in popular] == ["much", "some", "little"]
    assert popular[0].popularity > popular[1].popularity > popular[2].popularity > 0


async def test_the_number_of_popular_items_is_limited(store: FeatureStore) -> None:
    await record(store, [view(f"i{number}", 1) for number in range(5)])
    assert len(await store.popular(3)) == 3
    assert len(await store.popular(5)) == 5
    assert len(await store.popular(1000)) == 5


async def test_without_events_nothing_is_popular(store: FeatureStore) -> None:
    assert await store.popular(10) == []


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=list(ODD_IDS))
async def test_ids_may_contain_any_character(store: FeatureStore, odd: str) -> None:
    assert not (await store.user_features(odd)).known
    await record(store, [view(odd, 1, odd), view("a", 2, odd)])
    features = await store.user_features(odd)
    assert (features.user_id, features.known) == (odd, True)
    assert features.recent_items == [odd, "a"]
    assert sorted(features.seen_items) == sorted([odd, "a"])
    assert odd in {item.item_id for item in await store.popular(10)}


async def test_users_with_similar_ids_are_different_users(store: FeatureStore) -> None:
    names = ["u", "U", "u ", "u}", "{u}", "u:recent", "u%20", "ü", "u\u0308"]
    await record(store, [view(f"item of {name}", 1, name) for name in names])
    for name in names:
        assert await recent(store, name) == [f"item of {name}"]


# --- the log ----------------------------------------------------------------------------------------------------------


async def test_an_event_is_logged_as_it_was_sent(store: FeatureStore, logged: Logged) -> None:
    future = time.time() + 1000
    sent = Event(
        event_id="e1",
        user_id="ann",
        item_id="a",
        event="rating",
        timestamp=future,
        value=4.5,
        placement="basket",
        recommendation_id="r.champion",
    )
    before = time.time()
    await record(store, [sent, view("b", 7, "ann", "e2")])
    rated, viewed = sorted(await logged(), key=lambda event: event.event_id)
    assert before <= rated.server_time <= time.time()
    assert rated.model_dump(exclude={"server_time", "schema_version"}) == {**sent.model_dump(), "positive": True}
    assert (viewed.timestamp, viewed.value, viewed.placement, viewed.recommendation_id) == (7, None, "default", None)
    assert rated.schema_version == SCHEMA_VERSION


async def test_the_log_says_whether_an_event_was_positive(store: FeatureStore, logged: Logged) -> None:
    kinds = EventKinds({"dislike": KindMeaning(negative=True), "impression": KindMeaning(weight=0)})
    sent = [Event(user_id="u", item_id="a", event=kind, timestamp=1) for kind in ("view", "dislike", "impression")]
    await store.record(sent, {"a"}, kinds)
    assert {event.event: event.positive for event in await logged()} == {
        "view": True,
        "dislike": False,
        "impression": False,
    }


async def test_a_duplicate_by_id_or_by_item_kind_and_second_is_not_logged(store: FeatureStore, logged: Logged) -> None:
    await record(store, [view("a", 1, event_id="e1"), view("a", 1, event_id="e1")])
    await record(store, [view("b", 2, event_id="e1"), view("a", 1, event_id="e2")])
    assert [(event.event_id, event.item_id) for event in await logged()] == [("e1", "a")]


async def test_events_of_unknown_items_are_logged(store: FeatureStore, logged: Logged) -> None:
    await store.record([view("known", 1), view("unknown", 2)], {"known"})
    assert {event.item_id for event in await logged()} == {"known", "unknown"}


async def test_the_events_of_many_users_are_logged(store: FeatureStore, logged: Logged) -> None:
    events = [view(f"i{number}", number, f"u{number % 40}") for number in range(200)]
    await record(store, events)
    assert {(event.user_id, event.event_id) for event in await logged()} == {(e.user_id, e.event_id) for e in events}


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=list(ODD_IDS))
async def test_logged_ids_may_contain_any_character(store: FeatureStore, logged: Logged, odd: str) -> None:
    await record(store, [view(odd, 1, odd)])
    assert [(event.user_id, event.item_id) for event in await logged()] == [(odd, odd)]


# --- the activity of items --------------------------------------------------------------------------------------------

TODAY = day_of(time.time())
YESTERDAY = DAY * (TODAY - 1)
"""Its first second."""
HOUR = 3600


async def uses_of(activity: ItemActivity, day: int) -> DayActivity:
    found = await activity.day_activity(day)
    assert found is not None
    return found


def by_item(day: DayActivity) -> dict[str, tuple[int, list[float]]]:
    """Item id -> the time of its first event, and its sums by half-life."""
    columns = zip(day.item_ids, day.item_first, zip(*day.weights, strict=True), strict=True)
    return {item_id: (first, list(sums)) for item_id, first, sums in columns}


def sums_of(*seconds: int) -> list[float]:
    """What events at these seconds of a day add up to, by half-life."""
    return [pytest.approx(sum(2 ** (second / DAY / half_life) for second in seconds)) for half_life in HALF_LIVES]


async def test_the_uses_of_items_are_summed_by_day(store: FeatureStore, activity: ItemActivity) -> None:
    await record(store, [view("a", YESTERDAY + HOUR, "u1"), view("a", YESTERDAY + 5 * HOUR, "u2")])
    await record(store, [view("b", YESTERDAY + 2 * HOUR + 0.7, "u3"), view("b", YESTERDAY - 1, "u4")])
    days = await activity.active_days()
    assert [(day.day, day.events) for day in days] == [(TODAY - 2, 1), (TODAY - 1, 3)]
    day = await uses_of(activity, TODAY - 1)
    assert (day.day, day.events, day.first, day.last) == (TODAY - 1, 3, YESTERDAY + HOUR, YESTERDAY + 5 * HOUR)
    assert day.totals == sums_of(HOUR, 5 * HOUR, 2 * HOUR)
    assert by_item(day) == {
        "a": (YESTERDAY + HOUR, sums_of(HOUR, 5 * HOUR)),
        "b": (YESTERDAY + 2 * HOUR, sums_of(2 * HOUR)),
    }


async def test_without_events_nothing_is_active(activity: ItemActivity) -> None:
    assert await activity.active_days() == []
    assert await activity.day_activity(TODAY) is None


async def test_a_duplicate_is_used_once(store: FeatureStore, activity: ItemActivity) -> None:
    event = view("a", YESTERDAY, event_id="e1")
    await record(store, [event, event, view("b", YESTERDAY + 1)])
    await record(store, [event, view("a", YESTERDAY, event_id="e2")])
    assert (await uses_of(activity, TODAY - 1)).events == 2


async def test_repeats_of_an_item_in_a_row_are_one_use(store: FeatureStore, activity: ItemActivity) -> None:
    """As in training: the first event of a step counts, whatever comes between the events of other users."""
    events = [view("a", YESTERDAY + at, user_id) for at in (0, 10, 20) for user_id in ("u", "v")]
    for event in events:
        await record(store, [event])
    await record(store, [view("b", YESTERDAY + 30), view("a", YESTERDAY + 40), view("a", YESTERDAY + 5)])
    day = await uses_of(activity, TODAY - 1)
    assert (day.events, by_item(day)["a"]) == (4, (YESTERDAY, sums_of(0, 0, 40)))


async def test_items_that_the_catalogue_does_not_know_are_not_active(
    store: FeatureStore, activity: ItemActivity
) -> None:
    await store.record([view("unknown", YESTERDAY), view("known", YESTERDAY + 1)], {"known"})
    day = await uses_of(activity, TODAY - 1)
    assert (day.item_ids, day.events) == (["known"], 1)


async def test_events_of_long_ago_are_not_active(store: FeatureStore, activity: ItemActivity) -> None:
    oldest = (TODAY - ACTIVITY_DAYS) * DAY
    await record(store, [view("old", oldest - 1), view("in time", oldest)])
    assert [day.events for day in await activity.active_days()] == [1]
    assert (await uses_of(activity, TODAY - ACTIVITY_DAYS)).item_ids == ["in time"]


async def test_the_activity_of_many_users_adds_up(store: FeatureStore, activity: ItemActivity) -> None:
    await record(store, [view(f"i{number % 7}", YESTERDAY + number, f"u{number}") for number in range(200)])
    found = by_item(await uses_of(activity, TODAY - 1))
    assert found == {f"i{item}": (YESTERDAY + item, sums_of(*range(item, 200, 7))) for item in range(7)}


async def test_active_ids_may_contain_any_character(store: FeatureStore, activity: ItemActivity) -> None:
    odd = list(ODD_IDS.values())
    await record(store, [view(item_id, YESTERDAY, item_id) for item_id in odd])
    assert sorted((await uses_of(activity, TODAY - 1)).item_ids) == sorted(odd)
