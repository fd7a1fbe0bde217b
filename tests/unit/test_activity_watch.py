"""The ranker follows the live activity of items: what it reads, what it keeps, and what it says when it cannot."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prometheus_client import REGISTRY

from ranker_service.activity_watch import ActivityWatch
from recsys.adapters.in_memory_feature_store import InMemoryFeatureStore
from recsys.adapters.local_ranker import LocalRanker
from recsys.clock import ClockFile
from recsys.contracts.activity import DAY, ActiveDay, DayActivity
from recsys.contracts.events import Event
from recsys.errors import UpstreamUnavailable
from recsys.model.feature_distribution import FeatureDistribution
from recsys.model.files import ITEMS_FILE
from recsys.model.lightgbm_alone import lgb
from recsys.model.ranking_feature_names import FEATURE_NAMES
from recsys.model.release import Release
from tests import toy
from training.datasets.manifest import INTERACTIONS_FILE
from training.datasets.sequences import load_sequences
from training.models.activity_log import ActivityLog
from training.models.ranking_tables import ranking_tables
from training.models.second_stage import _save
from training.release_manifest import describe_release

LOG_END = int(time.time()) - 3 * DAY
USER = [toy.ITEM_IDS[3]]
"""The recent items of the user who asks."""
WANTED, OTHER = toy.ITEM_IDS[57], toy.ITEM_IDS[58]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the toy shop whose second stage has a single tree, and whose log ended three days ago."""
    settings = toy.job_settings(tmp_path_factory.mktemp("release"))
    toy.write_prepared(settings)
    file = settings.processed_dir / INTERACTIONS_FILE
    log = pl.read_parquet(file)
    of_user = pl.col("user_id").rank("dense").cast(pl.Int64) * 60
    shifted = log.with_columns(timestamp=pl.col("timestamp") - pl.col("timestamp").max() + LOG_END - of_user)
    shifted.sort("user_id", "timestamp", maintain_order=True).write_parquet(file)
    directory = toy.write_model(settings, "first", seed=1)
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    sequences.vocabulary.save(directory / "vocabulary.json")
    activity = ActivityLog(sequences)
    tables = ranking_tables(sequences, pl.read_ndjson(directory / ITEMS_FILE), activity.as_of(activity.end))
    rows = np.random.default_rng(1).random((60, len(FEATURE_NAMES)))
    distribution = FeatureDistribution.of([rows.astype(np.float32)])
    tables = replace(
        tables,
        sources=np.array([0, 0, 5, 0]),
        activity_base=activity.base(activity.end),
        feature_distribution=distribution,
    )
    data = lgb.Dataset(rows, rows[:, 0], feature_name=FEATURE_NAMES)
    _save(directory, tables, lgb.train({"num_leaves": 3, "verbose": -1}, data, 1))
    describe_release(directory)
    return directory


class Source(InMemoryFeatureStore):
    """A feature service that can be away, and that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked: list[int] = []

    async def active_days(self) -> list[ActiveDay]:
        if self.away:
            raise UpstreamUnavailable("the feature service cannot be reached")
        return await super().active_days()

    async def day_activity(self, day: int) -> DayActivity | None:
        self.asked.append(day)
        return await super().day_activity(day)

    async def use(self, item_id: str, times: int, at: float) -> None:
        events = [Event(user_id=f"{at} {n}", item_id=item_id, event="view", timestamp=at) for n in range(times)]
        await self.record(events, {item_id})


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def ranker(directory: Path) -> LocalRanker:
    ranker = LocalRanker()
    ranker.add(Release.load(1, directory))
    return ranker


@pytest.fixture
async def watch(source: Source, ranker: LocalRanker, clock: ClockFile) -> AsyncIterator[ActivityWatch]:
    watch = ActivityWatch(source, ranker, 1.0)
    yield watch
    watch.close()


def age() -> float | None:
    return REGISTRY.get_sample_value("tandem_live_activity_age_seconds")


async def trending(ranker: LocalRanker, version: int = 1) -> list[str]:
    return (await ranker.encode(USER, version)).other_candidates["trending"]


async def test_what_users_do_now_becomes_a_candidate(
    watch: ActivityWatch, ranker: LocalRanker, source: Source, clock: ClockFile
) -> None:
    await source.use(WANTED, 500, clock.now() - 60)
    before = await trending(ranker)
    assert WANTED not in before
    await watch.follow()
    assert (await trending(ranker))[0] == WANTED
    assert set((await trending(ranker))[1:]) < set(before), "what the log knows stays"
    await source.use(OTHER, 600, clock.now() - 30)
    await watch.follow()
    assert (await trending(ranker))[:2] == [OTHER, WANTED]


async def test_the_second_stage_sees_it(
    watch: ActivityWatch, ranker: LocalRanker, source: Source, clock: ClockFile
) -> None:
    [before] = ranker.releases_in_memory
    await source.use(WANTED, 50, clock.now() - 60)
    await watch.follow()
    [after] = ranker.releases_in_memory
    index = after.vocabulary.index_of(WANTED)
    share, share_before = (each._second_stage._features._activity[index, 0] for each in (after, before))
    assert share > share_before
    assert (after.live_events, before.live_events) == (50, 0), "a release itself never changes"


async def test_its_features_are_sampled_before_and_after(
    watch: ActivityWatch, ranker: LocalRanker, source: Source, clock: ClockFile
) -> None:
    ranker.set_roles(1)
    sample = ranker.champion_features
    assert sample is not None
    assert len(sample.take()) == 1  # of the warm-up
    await source.use(WANTED, 50, clock.now() - 60)
    await watch.follow()
    assert ranker.champion_features is sample


async def test_events_before_the_last_day_of_the_log_do_not_count(
    watch: ActivityWatch, ranker: LocalRanker, source: Source
) -> None:
    await source.use(WANTED, 500, LOG_END - 2 * DAY)
    await watch.follow()
    assert ranker.releases_in_memory[0].live_events == 0
    assert WANTED not in await trending(ranker)
    assert source.asked == []


async def test_only_what_changed_is_read_again(watch: ActivityWatch, source: Source, clock: ClockFile) -> None:
    await source.use(WANTED, 1, clock.now() - DAY)
    await source.use(WANTED, 1, clock.now() - 1)
    await watch.follow()
    assert len(source.asked) == 2
    await watch.follow()
    assert len(source.asked) == 2
    await source.use(OTHER, 1, clock.now())
    await watch.follow()
    assert source.asked[2:] == source.asked[1:2]


async def test_while_it_cannot_be_read_the_last_one_stays_and_the_metric_says_so(
    watch: ActivityWatch, ranker: LocalRanker, source: Source, clock: ClockFile, directory: Path
) -> None:
    await source.use(WANTED, 500, clock.now() - 60)
    await watch.follow()
    assert age() == 0
    source.away = True
    clock.advance(700)
    ranker.add(Release.load(2, directory))
    await watch.follow()
    assert age() == 700
    assert (await trending(ranker))[0] == (await trending(ranker, 2))[0] == WANTED, "also for what is loaded later"
    source.away = False
    await watch.follow()
    assert age() == 0


async def test_without_a_feature_service_releases_keep_their_own(ranker: LocalRanker, clock: ClockFile) -> None:
    watch = ActivityWatch(None, ranker, 1.0)
    clock.advance(100)
    before = ranker.releases_in_memory
    await watch.follow()
    assert ranker.releases_in_memory == before
    assert age() == 100
    watch.close()


async def test_what_was_unloaded_or_replaced_meanwhile_does_not_come_back(ranker: LocalRanker, directory: Path) -> None:
    [old] = ranker.releases_in_memory
    successor = old.with_live_activity([], time.time())
    ranker.add(Release.load(1, directory))
    [new] = ranker.releases_in_memory
    ranker.replace(old, successor)
    assert ranker.releases_in_memory == [new]
