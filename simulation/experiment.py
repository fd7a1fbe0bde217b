"""The experiment with one seed, from an empty shop to the last release; read `Experiment.run` first."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from local.tour import wait_until_ready
from recsys.model.registry import CHALLENGER
from simulation.outcome import Mark, Outcome, Ramped, key_of, served_by
from simulation.plan import Plan
from simulation.policies import Oracle, PolicyName, Popular, Served, frozen
from simulation.population import Population
from simulation.shop_client import ShopClient, shop_client
from simulation.shop_files import ITEMS, unix_time, write_items, write_log, write_shuffled
from simulation.stack import FIRST_RELEASE, RELEASE_OF_OTHER_DATA, Stack, stack_running
from simulation.visits import Arm, PageView, Shop
from simulation.world import World
from training.datasets.manifest import INTERACTIONS_FILE
from training.promotion.rolled_back import rolled_back
from training.retraining.state import State


def simulate(seed: int, plan: Plan, folder: Path, equal_releases: int) -> Outcome:
    """Run the experiment, unless its outcome is in the folder. Raises JobError if a part of the stack fails."""
    key = key_of(plan, equal_releases)
    finished = Outcome.read(folder, key)
    if finished is not None:
        print(f"simulate: seed {seed} is finished", flush=True)
        return finished
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with stack_running(folder, plan) as stack:
        experiment = Experiment(seed, plan, stack)
        asyncio.run(experiment.run(equal_releases))
    outcome = Outcome(
        key=key, seed=seed, plan=plan, marks=experiment.marks, bad=experiment.bad[0], equal=experiment.equal
    )
    outcome.write(folder, experiment.shop.views)
    return outcome


class Experiment:
    def __init__(self, seed: int, plan: Plan, stack: Stack) -> None:
        self._seed = seed
        self._plan = plan
        self._stack = stack
        self._world = World(seed, plan.assortment)
        self._day = plan.opening_day
        closed, frozen_too = np.random.default_rng((seed, 1)).spawn(2)
        self._closed = Population.of(self._world, "C", plan.visitors, plan.habits, closed)
        self._frozen = Population.of(self._world, "F", plan.visitors, plan.habits, frozen_too)
        self.shop = Shop(self._world, stack.clock)
        self.marks: list[Mark] = []
        self.bad: list[Ramped] = []
        self.equal: list[Ramped] = []

    async def run(self, equal_releases: int) -> None:
        plan = self._plan
        self._write_log()
        for job in FIRST_RELEASE:
            await self._job(job)
        await asyncio.to_thread(wait_until_ready, self._stack.settings)
        self._stack.registry.set_alias(CHALLENGER, self._stack.champion)
        async with shop_client(self._stack.settings.orchestrator_url) as client:
            arms = self._arms(client)
            await self._days(plan.season_day, arms)
            self._begin_season(arms)
            await self._days(plan.first_retraining, arms)
            await self._retrain(arms)
            await self._days(plan.second_retraining, arms)
            await self._retrain(arms)
            await self._days(plan.bad_day, arms)
            self.bad.append(await self._ramp(await self._promote_bad(), arms, plan.days_with_bad))
            for _ in range(equal_releases):
                self.equal.append(await self._ramp(await self._stack.promote_again(plan.ramp), arms[:1], 0))

    def _write_log(self) -> None:
        days = tqdm(range(self._plan.first_day, self._plan.opening_day), desc=self._named("the log"), unit="day")
        events = [event for day in days for each in (self._closed, self._frozen) for event in each.browse(day)]
        write_log(self._stack.source, self._world, events)
        write_items(self._stack.source, self._world, self._day)

    def _arms(self, client: ShopClient) -> list[Arm]:
        """The references have the visitors of the closed loop, who go their own ways from now on."""
        world, size = self._world, self._plan.page_items
        return [
            Arm(PolicyName.CLOSED, self._closed, Served(client, world, size)),
            Arm(PolicyName.FROZEN, self._frozen, frozen(client, world, size)),
            Arm(PolicyName.POPULAR, self._closed.copy(), Popular(client, world, size)),
            Arm(PolicyName.ORACLE, self._closed.copy(), Oracle(size)),
        ]

    async def _days(self, until: int, arms: Sequence[Arm]) -> None:
        with tqdm(total=until - self._day, desc=self._named("visits"), unit="day") as progress:
            while self._day < until:
                views = await self.shop.day(self._day, arms)
                self._day += 1
                progress.set_postfix_str(_click_through(views))
                progress.update()

    def _begin_season(self, arms: Sequence[Arm]) -> None:
        self._mark("season")
        for arm in arms:
            arm.population.begin_season()

    async def _retrain(self, arms: Sequence[Arm]) -> None:
        plan, stack = self._plan, self._stack
        acknowledged = sum(arm.policy.acknowledged for arm in arms if isinstance(arm.policy, Served))
        await stack.collected(unix_time(plan.opening_day), acknowledged)
        stack.clock.advance(1)  # the newest events are of this second, and a run takes those before it
        write_items(stack.source, self._world, self._day)
        await self._job("retrain", RAMP="100")
        last = State.read(stack.data / "retraining" / f"{stack.settings.dataset}.json").last
        self._mark(f"retraining {'failed' if last is None else last.outcome}")

    async def _promote_bad(self) -> int:
        stack = self._stack
        shop, data = stack.source.with_name("bad_shop"), stack.data.with_name("bad_data")
        prepared = stack.data / "processed" / stack.settings.dataset / INTERACTIONS_FILE
        write_shuffled(shop, prepared, stack.source / ITEMS, self._seed)
        environment = {"DATA_SOURCE": str(shop), "DATA_DIR": str(data), "FORCE": "1", "RAMP": self._plan.ramp}
        for job in RELEASE_OF_OTHER_DATA:
            await self._job(job, TRAIN_MINUTES=str(self._plan.bad_train_minutes), **environment)
        self._mark("bad release")
        return stack.champion

    async def _ramp(self, release: int, arms: Sequence[Arm], at_least: int) -> Ramped:
        """Visits until the guard has ended the ramp, for `at_least` days."""
        began = self._day
        while self._day < began + at_least or (self._stack.ramps and self._day < began + self._plan.most_days):
            await self._days(self._day + 1, arms)
        impressions = served_by(self.shop.views, release)
        record = rolled_back(self._stack.registry.tags_of(release))
        ended = not self._stack.ramps
        if not ended:
            await self._job("ramp", SHARE="100")
        print(self._named(f"release {release}: {record or ('served everybody' if ended else 'undecided')}"), flush=True)
        return Ramped(
            release=release, impressions=impressions, rolled_back=None if record is None else record.reason, ended=ended
        )

    async def _job(self, name: str, **environment: str) -> None:
        print(self._named(await self._stack.jobs.run(name, **environment)), flush=True)

    def _mark(self, event: str) -> None:
        self.marks.append(Mark(day=self._day, event=event))

    def _named(self, text: str) -> str:
        return f"seed {self._seed}, day {self._day - self._plan.opening_day}: {text}"


def _click_through(views: Sequence[PageView]) -> str:
    shares = {name: [view.clicked for view in views if view.policy == name] for name in PolicyName}
    return ", ".join(f"{name} {sum(clicks) / len(clicks):.0%}" for name, clicks in shares.items() if clicks)
