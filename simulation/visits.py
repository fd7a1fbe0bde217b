"""Visitors go through the shop: every visit page by page, the visits of a slice of time at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from recsys.clock import ClockFile
from simulation.behaviour import clicked, found
from simulation.policies import Policy, PolicyName
from simulation.population import Population, Visit, deed, deeds_without_pages
from simulation.shop_files import unix_time
from simulation.world import World

SLICES_PER_DAY = 12


class PageView(NamedTuple):
    policy: PolicyName
    user_id: str
    day: float
    clicked: bool
    release: int | None
    tier: str | None


@dataclass
class Arm:
    """Visitors, and what decides about their pages."""

    name: PolicyName
    population: Population
    policy: Policy


class Shop:
    """Where the visitors of all arms go, at the time that the whole stack sees."""

    def __init__(self, world: World, clock: ClockFile) -> None:
        self._world = world
        self._clock = clock
        self.views: list[PageView] = []

    async def day(self, day: int, arms: Sequence[Arm]) -> list[PageView]:
        """The pages that were looked at."""
        began = len(self.views)
        visits = [[*arm.population.visits_on(day)] for arm in arms]
        for number in range(SLICES_PER_DAY):
            begin, end = (day + (number + shift) / SLICES_PER_DAY for shift in (0, 1))
            # What happens in a slice happened before its end, so no event is ahead of the services' clock.
            self._clock.set(unix_time(end))
            await asyncio.gather(*(arm.policy.refresh() for arm in arms))
            in_slice = [
                self._visit(arm, visit)
                for arm, of_arm in zip(arms, visits, strict=True)
                for visit in of_arm
                if begin <= visit.day < end
            ]
            for views in await asyncio.gather(*in_slice):
                self.views += views
        return self.views[began:]

    async def _visit(self, arm: Arm, visit: Visit) -> list[PageView]:
        if not visit.with_pages:
            await arm.policy.tell([*deeds_without_pages(visit, self._world)])
            return []
        return [await self._page(arm, visit, step) for step in range(visit.steps)]

    async def _page(self, arm: Arm, visit: Visit, step: int) -> PageView:
        """A visitor who clicks nothing finds an item without the page."""
        day = visit.day_of(step)
        wanted = self._world.wanted(visit.visitor, day)
        page = await arm.policy.page(visit, wanted)
        clicks = clicked(page.items, wanted, visit.random)
        if clicks:
            deeds = [deed(visit, step, item, page.recommendation_id) for item in clicks]
        else:
            deeds = [deed(visit, step, found(wanted, visit.random))]
        await arm.policy.tell(deeds)
        return PageView(arm.name, visit.visitor.user_id, day, bool(clicks), page.release, page.tier)
