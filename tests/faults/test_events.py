"""No acknowledged event is lost or counted twice while Redis, the feature service and the collector are killed.

Every event has its own item, so that each can be found again. Histories of 50 items are short enough to keep all of
them. `FAULT_EVENTS` and `FAULT_KILLS` set other numbers than 10,000 and 10.
"""

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import polars as pl
import redis as redis_client
from pydantic import ValidationError

from local.settings import HOST
from recsys.adapters import redis_keys as keys
from recsys.contracts.base import ErrorResponse
from recsys.contracts.event_log import LogTable
from recsys.contracts.events import EventsRecorded
from tests.engines import answers_with_200, eventually
from tests.faults.rig import Rig

EVENTS = int(os.environ.get("FAULT_EVENTS", "10000"))
USERS, WRITERS = EVENTS // 50, 4
SIZES = (1, 3, 10, 40, 150)
BETWEEN_BATCHES_SECONDS = 0.2
ATTEMPTS = 100
PAUSE_SECONDS = 0.25
KILLED = ("redis", "feature_service")
KILLS = int(os.environ.get("FAULT_KILLS", "10"))
UP_SECONDS = (0.1, 1.0)
DOWN_SECONDS = (0.0, 0.5)
RETRYABLE = (429, 503, 504)


@dataclass
class Written:
    """The responses to the writers."""

    acknowledged: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    """Responses that a caller cannot interpret."""
    recorded: int = 0


def batches(randomness: random.Random) -> list[list[dict[str, str]]]:
    """All events, in batches of different sizes with several users each."""
    events = [
        {"event_id": f"e-{number}", "user_id": f"writer-{number % USERS}", "item_id": f"i-{number}", "event": "view"}
        for number in range(EVENTS)
    ]
    cut = []
    while events:
        size = randomness.choice(SIZES)
        cut.append(events[:size])
        events = events[size:]
    return cut


def write(url: str, mine: list[list[dict[str, str]]], written: Written, lock: threading.Lock) -> None:
    """Post the batches. A rejected batch is sent again with the same ids, except every third, which is given up."""
    with httpx.Client(base_url=url, timeout=10) as client:
        for number, batch in enumerate(mine):
            time.sleep(BETWEEN_BATCHES_SECONDS)
            ids = {each["event_id"] for each in batch}
            for _ in range(1 if number % 3 == 0 else ATTEMPTS):
                answer = client.post("/v1/events", json=batch)
                if record(answer, ids, written, lock):
                    break
                if written.problems:
                    return
                time.sleep(PAUSE_SECONDS)
            else:
                with lock:
                    written.given_up |= ids


def record(answer: httpx.Response, ids: set[str], written: Written, lock: threading.Lock) -> bool:
    """Record the response. Returns whether it was acknowledged."""
    with lock:
        try:
            if answer.status_code == 200:
                stored = EventsRecorded.model_validate_json(answer.content)
                written.recorded += stored.recorded
                written.acknowledged |= ids
                if stored.recorded + stored.duplicates != len(ids):
                    written.problems.append(f"{stored} for {len(ids)} events")
                return True
            error = ErrorResponse.model_validate_json(answer.content)
            written.refusals[f"{answer.status_code} {error.error}"] += 1
            if answer.status_code not in RETRYABLE:
                written.problems.append(f"{answer.status_code}: {error}")
        except ValidationError:
            written.problems.append(f"{answer.status_code}: {answer.text[:200]}")
    return False


def test_every_acknowledged_event_is_there_exactly_once(rig: Rig) -> None:
    randomness, written, lock = random.Random(7), Written(), threading.Lock()
    rig.wait_until_well()
    cut, kills = batches(randomness), Counter[str]()
    with ThreadPoolExecutor(WRITERS) as writers:
        writing = [writers.submit(write, rig.url, cut[first::WRITERS], written, lock) for first in range(WRITERS)]
        for name in randomness.choices(KILLED, k=KILLS):
            time.sleep(randomness.uniform(*UP_SECONDS))
            rig.processes[name].kill()
            kills[name] += 1
            kills["collector"] += kill_collector(rig)
            time.sleep(randomness.uniform(*DOWN_SECONDS))
            rig.processes[name].start()
            rig.processes[name].wait_until_up()
        assert not all(each.done() for each in writing), "all events were written before the last kill"
    for each in writing:
        each.result()
    rig.wait_until_well()
    found, in_history, in_seen = stored(rig)
    eventually(lambda: is_collected(rig), "the collector did not empty the log")
    collected = in_files(rig)
    print(
        f"\n{EVENTS:,} events in {len(cut)} batches: {len(written.acknowledged):,} acknowledged, "
        f"{len(written.given_up):,} given up, {dict(kills)} killed, refused: {dict(written.refusals)}"
    )

    assert not written.problems
    assert kills["collector"], "the collector was never killed"
    assert len(written.acknowledged) >= EVENTS / 2, "fewer than half were acknowledged"
    assert not written.acknowledged - found, "acknowledged, but lost"
    assert in_history == in_seen == found, "counted, but not in the history"
    assert written.recorded <= len(found), "reported as new, but not stored"
    assert collected.keys() == found, "stored, but not in the files, or the other way round"
    assert set(collected.values()) == {1}, "more than once in the files"


def kill_collector(rig: Rig) -> bool:
    """Kill the collector and start it again, if it has come up since the last time. Returns whether it was killed."""
    if not answers_with_200(f"{rig.settings.collector_url}/healthz"):
        return False
    rig.processes["collector"].kill()
    rig.processes["collector"].start()
    return True


def is_collected(rig: Rig) -> bool:
    streams = [keys.log_key(LogTable.EVENTS, bucket) for bucket in range(keys.BUCKETS)]
    with redis_client.Redis(HOST, rig.settings.redis_port) as redis:
        return not any(redis.xlen(stream) for stream in streams)


def in_files(rig: Rig) -> Counter[str]:
    """How often each event is in the collector's files."""
    files = sorted((Path(str(rig.settings.event_log)) / LogTable.EVENTS).rglob("*.parquet"))
    print(f"\n{len(files)} files")
    rows = pl.concat([pl.read_parquet(file) for file in files])
    return Counter(rows.filter(pl.col("user_id").str.starts_with("writer-"))["event_id"].to_list())


def stored(rig: Rig) -> tuple[set[str], set[str], set[str]]:
    """The ids of the events in Redis: from the event ids, from the histories, and from the seen items.

    Asserts that every item is in one history once, and that none is popular: the catalogue has none of them."""
    by_member = {keys.event_id_member(f"e-{number}"): f"e-{number}" for number in range(EVENTS)}
    by_id, in_history, in_seen = [], [], []
    popular: dict[str, float] = {}
    with redis_client.Redis(HOST, rig.settings.redis_port, decode_responses=True) as redis:
        for user in (f"writer-{number}" for number in range(USERS)):
            by_id += [by_member[each] for each in redis.zrange(keys.event_ids_key(user), 0, -1)]
            in_history += [f"e-{each[2:]}" for each in keys.recent_items(redis.zrange(keys.recent_key(user), 0, -1))]
            in_seen += [f"e-{each[2:]}" for each in redis.zrange(keys.seen_key(user), 0, -1)]
        for bucket in range(keys.BUCKETS):
            popular |= dict(redis.zrange(keys.popular_key(bucket), 0, -1, withscores=True))
    assert len(in_history) == len(set(in_history)), "twice in a history"
    assert not {f"i-{each[2:]}" for each in by_id} & popular.keys(), "an item that the catalogue does not know counts"
    return set(by_id), set(in_history), set(in_seen)
