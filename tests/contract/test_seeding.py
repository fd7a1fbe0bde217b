"""The job `seed`, in Redis and in a Redis Cluster: an event counts once, on whichever ways it arrives."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from local.settings import LocalSettings
from recsys.adapters import redis_keys as keys
from recsys.adapters.redis_client import Client, open_redis
from recsys.adapters.redis_feature_store import RedisFeatureStore
from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.events import MAX_EVENTS, Event
from recsys.errors import StorageFull
from tests.contract.conftest import redis_url
from training.datasets.manifest import Manifest
from training.datasets.sequences import load_sequences
from training.jobs import seed as seed_job
from training.jobs.prepare import prepare
from training.jobs.seed import seed
from training.settings import JobSettings

Row = tuple[str, str, float, str]
"""User, item, time, kind."""
START = 1_700_000_000
ITEMS = [f"i{number:02d}" for number in range(40)]
KINDS = ["view", "click", "purchase"]


@pytest.fixture(params=["one server", "cluster"])
async def redis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    if request.param == "cluster":
        url = request.getfixturevalue("cluster_url")
    else:
        settings: LocalSettings = request.getfixturevalue("feature_engines")
        url = redis_url(settings)
    monkeypatch.setenv("REDIS_URL", url)
    client = open_redis(url)
    await client.flushall()
    yield client
    await client.aclose()


def prepared(folder: Path, rows: Sequence[Row], kinds: str = "") -> JobSettings:
    """Settings of the jobs, after `make data` for a log with these rows in this order, and these meanings of kinds."""
    folder.mkdir()
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event"], orient="row")
    log.write_csv(folder / "interactions.csv")
    pl.DataFrame({"item_id": ITEMS}).write_csv(folder / "items.csv")
    settings = JobSettings.model_validate({"dataset": "csv", "data_source": str(folder), "data_dir": folder / "data"})
    settings.kinds_file.parent.mkdir(parents=True)
    settings.kinds_file.write_text(kinds)
    prepare(settings)
    return settings


def event(row: Row) -> Event:
    user_id, item_id, timestamp, kind = row
    return Event(user_id=user_id, item_id=item_id, timestamp=timestamp, event=kind)


async def record(redis: Client, rows: Sequence[Row]) -> int:
    """Record the rows as live events; returns how many were new."""
    store, new = RedisFeatureStore(redis), 0
    for start in range(0, len(rows), MAX_EVENTS):
        new += sum((await store.record([event(row) for row in rows[start : start + MAX_EVENTS]], set(ITEMS))).new)
    return new


async def contents(redis: Client, users: Iterable[str]) -> tuple[dict[str, object], dict[str, float]]:
    """The histories, and the popularity by item."""
    store = RedisFeatureStore(redis)
    features = {user_id: await store.user_features(user_id) for user_id in users}
    return (
        {user_id: (each.recent_items, set(each.seen_items)) for user_id, each in features.items()},
        {item.item_id: item.popularity for item in await store.popular(1000)},
    )


def some_rows(seed_number: int, count: int, *, users: int = 5, step: int = 40) -> list[Row]:
    """A log in the order of time, with many ties and repeats."""
    randomness = random.Random(seed_number)
    rows, at = [], START
    for _ in range(count):
        at += randomness.choice([0, 0, 0, 1, step])
        rows.append((f"u{randomness.randrange(users)}", randomness.choice(ITEMS[:6]), at, randomness.choice(KINDS)))
    return list(dict.fromkeys(rows))


async def test_live_events_that_the_log_has_later_count_once(redis: Client, tmp_path: Path) -> None:
    rows = some_rows(1, 400)
    users = {row[0] for row in rows}
    seed(prepared(tmp_path / "first", rows[:250]))
    assert await record(redis, rows[250:]) == len(rows[250:])
    later = prepared(tmp_path / "second", rows)
    seed(later)
    histories, popular = await contents(redis, users)
    seed(later)
    assert await contents(redis, users) == (histories, pytest.approx(popular, rel=1e-3))

    await redis.flushall()
    seed(later)
    alone_histories, alone_popular = await contents(redis, users)
    assert histories == alone_histories
    assert popular == pytest.approx(alone_popular, rel=1e-3)


async def test_events_of_the_log_that_arrive_live_are_duplicates(redis: Client, tmp_path: Path) -> None:
    rows = some_rows(2, 200)
    seed(prepared(tmp_path / "log", rows))
    before = await contents(redis, {row[0] for row in rows})
    assert await record(redis, rows) == 0
    assert await contents(redis, {row[0] for row in rows}) == (before[0], pytest.approx(before[1], rel=1e-3))


async def test_live_events_within_a_second_become_those_of_the_log(redis: Client, tmp_path: Path) -> None:
    live: list[Row] = [
        ("u", "i01", START + 0.25, "view"),
        ("u", "i02", START + 0.5, "view"),
        ("u", "i01", START + 0.75, "click"),
    ]
    assert await record(redis, live) == 3
    assert (await contents(redis, ["u"]))[0]["u"][0] == ["i01", "i02", "i01"]
    seed(prepared(tmp_path / "log", [*live, ("u", "i03", START + 0.9, "view")]))
    assert (await contents(redis, ["u"]))[0]["u"][0] == ["i01", "i02", "i01", "i03"]
    assert await redis.zcard(keys.recent_key("u")) == 4


async def test_seeding_keeps_live_events_that_the_log_does_not_have(redis: Client, tmp_path: Path) -> None:
    now = 1_800_000_000.0
    await record(redis, [("u", "i01", START + 5, "view"), ("v", "i02", now, "view"), ("u", "i03", now, "view")])
    seed(prepared(tmp_path / "log", [("u", "i04", START, "view"), ("u", "i05", START + 9, "view")]))
    histories, popular = await contents(redis, ["u", "v"])
    assert histories["u"] == (["i04", "i01", "i05", "i03"], {"i01", "i03", "i04", "i05"})
    assert histories["v"] == (["i02"], {"i02"})
    assert popular.keys() == {"i01", "i02", "i03", "i04", "i05"}
    assert all(weight == pytest.approx(1, rel=1e-3) for weight in popular.values())  # the end of the log is the present


async def test_an_event_during_a_seed_job_counts_once(
    redis: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of users before, while and after the job counts them."""
    settings = prepared(tmp_path / "log", [(f"u{n}", "i01", START, "view") for n in range(50)])
    recording = []

    def as_it_runs(job_step: Any) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            recording.append([(f"u{n}", "i02", START + 100 + len(recording), "view") for n in range(50)])
            sent = [event(row) for row in recording[-1]]
            asyncio.run_coroutine_threadsafe(RedisFeatureStore(redis).record(sent, {"i02"}), loop).result(30)
            return job_step(*args)

        return step

    loop = asyncio.get_running_loop()
    for name in ("start_counting", "_seed_users", "_count_other_users", "publish_counts"):
        monkeypatch.setattr(f"training.jobs.seed.{name}", as_it_runs(getattr(seed_job, name)))
    await asyncio.to_thread(seed, settings)
    await record(redis, [("u0", "i02", START + 200, "view")])
    popular = (await contents(redis, []))[1]
    assert len(recording) == 4
    assert popular["i02"] == pytest.approx(popular["i01"], rel=1e-2)


async def test_items_that_the_catalogue_does_not_know_are_never_popular_after_seeding(
    redis: Client, tmp_path: Path
) -> None:
    await RedisFeatureStore(redis).record([event((f"u{n}", "invented", START, "view")) for n in range(9)], set())
    seed(prepared(tmp_path / "log", [("u", "i01", START, "view")]))
    assert (await contents(redis, []))[1].keys() == {"i01"}


async def test_seeded_users_expire(redis: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_SERVICE_USER_TTL_DAYS", "2")
    seed(prepared(tmp_path / "log", [("u", "i01", START, "view")]))
    for key in (keys.recent_key("u"), keys.seen_key("u"), keys.attributes_key("u")):
        assert 0 < await redis.ttl(key) <= 2 * 86_400


async def test_a_full_redis_stops_the_job_with_a_reason(redis: Client, tmp_path: Path) -> None:
    settings = prepared(tmp_path / "log", [("u", "i01", START, "view")])
    servers = redis.get_primaries() if hasattr(redis, "get_primaries") else [None]
    each = [{} if server is None else {"target_nodes": server} for server in servers]
    before = [(await redis.config_get("maxmemory", **one))["maxmemory"] for one in each]
    for one in each:
        await redis.config_set("maxmemory", "1", **one)
    try:
        with pytest.raises(StorageFull, match="REDIS_MAXMEMORY"):
            seed(settings)
    finally:
        for one, limit in zip(each, before, strict=True):
            await redis.config_set("maxmemory", limit, **one)


# --- the model's input ------------------------------------------------------------------------------------------------


def late(rows: Sequence[Row], seed_number: int) -> list[Row]:
    """The rows as they might arrive: some seconds come late, and the events of a second keep their order."""
    randomness = random.Random(seed_number)
    delays = {(row[0], row[2]): randomness.choice([0, 0, 0, 200, 900]) for row in rows}
    return sorted(rows, key=lambda row: row[2] + delays[row[0], row[2]])


MEANINGS = """
[view]
seen = false
[click]
negative = true
"""


async def test_seeded_events_have_the_meanings_of_their_kinds(redis: Client, tmp_path: Path) -> None:
    """The same rows have the same result live and seeded; `w` has nothing but a dislike."""
    rows = [*some_rows(5, 300), ("w", "i03", START + 7, "click")]
    rows += [("v", "i08", START + 7, "view"), ("v", "i09", START + 8, "click")]
    settings = prepared(tmp_path / "log", rows, MEANINGS)
    kinds, store = Manifest.read(settings.processed_dir).event_kinds, RedisFeatureStore(redis)
    users, found = sorted({row[0] for row in rows}), []
    for way in ("seeded", "live"):
        await redis.flushall()
        if way == "seeded":
            seed(settings)
        else:
            await store.record([event(row) for row in rows], set(ITEMS), kinds)
        features = [await store.user_features(user_id) for user_id in users]
        found.append([(each.recent_items, each.seen_items, each.disliked_items) for each in features])
        assert {item.item_id for item in await store.popular(100)} == {row[1] for row in rows if row[3] == "purchase"}
    assert found[0] == found[1]
    assert found[0][-2:] == [(["i08"], [], ["i09"]), ([], [], ["i03"])]
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    for user in range(sequences.num_users):
        trained = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]]
        assert sequences.vocabulary.indices(found[0][user][0]) == trained.tolist()[-MAX_HISTORY:]


@pytest.mark.parametrize("way", ["live", "seeded", "both"])
async def test_the_model_reads_in_serving_what_it_read_in_training(redis: Client, tmp_path: Path, way: str) -> None:
    """For users with more events than Redis keeps, with ties and repeats, and with events that arrive late."""
    rows = some_rows(3, 6000, users=4)
    settings = prepared(tmp_path / "log", rows)
    if way == "both":
        seed(prepared(tmp_path / "earlier", rows[:3000]))
        await record(redis, late(rows[2500:], 4))
        seed(settings)
    elif way == "seeded":
        seed(settings)
    else:
        await record(redis, late(rows, 4))
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    for user in range(sequences.num_users):
        trained = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]][-MAX_HISTORY:]
        assert len(trained) == MAX_HISTORY
        served = (await RedisFeatureStore(redis).user_features(f"u{user}")).recent_items
        assert sequences.vocabulary.indices(served) == trained.tolist()
