"""The activity of items in serving is that of training: a log written by hand, whose end arrives as live events."""

import time
from pathlib import Path

import numpy as np
import pytest

from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.contracts.activity import DAY, day_of
from recsys.contracts.events import Event
from recsys.model.item_activity import Activity
from recsys.model.live_activity import ActivityBase, LiveDay
from recsys.model.vocabulary import Vocabulary
from training.datasets.sequences import Sequences, load_sequences
from training.models.activity_log import ActivityLog

from .test_splits import write

HOUR = 3600
MIDNIGHT = (day_of(time.time()) - 20) * DAY
"""Day 0 of the log."""
LOG: dict[str, list[tuple[str, int]]] = {
    "ann": [("a", 0), ("b", 9 * HOUR), ("a", DAY + 5), ("a", DAY + 6), ("c", DAY + 9 * HOUR), ("x", 40 * DAY)],
    "bob": [("b", 3 * HOUR), ("a", DAY + 3 * HOUR), ("b", 2 * DAY), ("c", 3 * DAY + 7), ("x", 40 * DAY)],
    "cid": [("c", DAY + 20 * HOUR), ("d", 2 * DAY + 1), ("d", 11 * DAY + 5), ("a", 12 * DAY), ("x", 40 * DAY)],
}
"""By user: items with seconds after day 0. The last event of each user is held out. Nine days pass without an event."""
MOMENTS = [MIDNIGHT + at for at in (3 * DAY, 3 * DAY + 8, 11 * DAY + 6, 13 * DAY, 19 * DAY + 5)]


def times_of(user: str) -> list[tuple[str, int]]:
    return [(item_id, MIDNIGHT + at) for item_id, at in LOG[user]]


@pytest.fixture
def sequences(tmp_path: Path) -> Sequences:
    settings = write(tmp_path, {user: times_of(user) for user in LOG})
    return load_sequences(settings.processed_dir, settings.models_dir)


async def live_days(start: int, moment: float, more: tuple[Event, ...] = ()) -> list[LiveDay]:
    """What the feature store has counted of the log from `start` on and before `moment`."""
    store = InMemoryFeatureStore()
    rows = [(user, item_id, at) for user in LOG for item_id, at in times_of(user)[:-1] if start <= at < moment]
    for user, item_id, at in sorted(rows, key=lambda row: row[2]):
        event = Event(user_id=user, item_id=item_id, event="view", timestamp=at)
        await store.record([event], {item_id})
    if more:
        await store.record(more, {event.item_id for event in more})
    found = [await store.day_activity(day.day) for day in await store.active_days()]
    return [LiveDay.of(activity) for activity in found if activity is not None]


def with_live(base: ActivityBase, live: list[LiveDay], vocabulary: Vocabulary, moment: float) -> Activity:
    counted = [day.of_items(vocabulary) for day in live if day.day >= base.last_day.day]
    return base.activity(counted, moment)


@pytest.mark.parametrize("end", [DAY + 4 * HOUR, DAY + 20 * HOUR + 1, 2 * DAY + 1, 3 * DAY])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_live_counts_and_the_log_give_the_same_activity(sequences: Sequences, end: int, moment: int) -> None:
    """The log ends within a day, whose live events have been counted from midnight on, or with a day."""
    log = ActivityLog(sequences)
    base = log.base(MIDNIGHT + end)
    assert base is not None
    live = await live_days(base.last_day.day * DAY, moment)
    served = with_live(base, live, sequences.vocabulary, moment)
    np.testing.assert_allclose(served, log.as_of(moment), rtol=1e-5)


async def test_without_live_events_it_is_that_of_the_log(sequences: Sequences) -> None:
    log = ActivityLog(sequences)
    base = log.base(log.end)
    assert base is not None
    np.testing.assert_allclose(base.activity([], log.end), log.as_of(log.end), rtol=1e-5)


async def test_live_events_that_the_log_has_count_once(sequences: Sequences) -> None:
    """Whether they are all live, or a part of them."""
    log = ActivityLog(sequences)
    base = log.base(log.end)
    assert base is not None
    for start in (0, MIDNIGHT + 11 * DAY, MIDNIGHT + 12 * DAY):
        live = await live_days(start, log.end)
        served = with_live(base, live, sequences.vocabulary, log.end)
        np.testing.assert_allclose(served, log.as_of(log.end), rtol=1e-5)


async def test_items_that_the_release_does_not_know_do_not_count(sequences: Sequences) -> None:
    log = ActivityLog(sequences)
    base = log.base(MIDNIGHT + 2 * DAY)
    assert base is not None
    new = Event(user_id="dee", item_id="new", event="view", timestamp=MIDNIGHT + 3 * DAY + 9)
    live = await live_days(base.last_day.day * DAY, log.end, (new,))
    assert "new" in {item_id for day in live for item_id in day.item_ids}
    served = with_live(base, live, sequences.vocabulary, log.end)
    np.testing.assert_allclose(served, log.as_of(log.end), rtol=1e-5)


async def test_an_old_log_is_not_outweighed_by_one_live_event(tmp_path: Path) -> None:
    """The log of a data set from long ago: its end counts as a week before the first live event."""
    old = [("abcd"[number % 4], number * HOUR) for number in range(100)]
    settings = write(tmp_path, {"ann": old, "bob": [("a", 5), ("b", 9), ("c", 99 * HOUR)]})
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    base = ActivityLog(sequences).base(100 * HOUR)
    assert base is not None
    live = await live_days(MIDNIGHT, MIDNIGHT + 1)
    share = np.expm1(with_live(base, live, sequences.vocabulary, time.time())[:, 0])
    assert 0.01 < share[sequences.vocabulary.index_of("a")] / share.sum() < 0.5


async def test_it_is_stored_with_the_tables(sequences: Sequences) -> None:
    base = ActivityLog(sequences).base(MIDNIGHT + 2 * DAY)
    assert base is not None
    stored = ActivityBase.of_tensors(base.tensors())
    assert stored is not None
    live = [day.of_items(sequences.vocabulary) for day in await live_days(0, MOMENTS[-1])][1:]
    np.testing.assert_array_equal(stored.activity(live, MOMENTS[-1]), base.activity(live, MOMENTS[-1]))
    assert ActivityBase.of_tensors({}) is None


def test_positions_are_no_times(tmp_path: Path) -> None:
    settings = write(tmp_path, {user: [(item, place) for place, (item, _) in enumerate(LOG[user])] for user in LOG})
    log = ActivityLog(load_sequences(settings.processed_dir, settings.models_dir))
    assert log.base(log.end) is None
