"""What decides about a page: a release that the stack serves, or one of the references that bound it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np

from recsys.contracts.base import MAX_TOP_K
from recsys.experiment import CHALLENGER
from simulation.population import Deed, Visit
from simulation.shop_client import ShopClient
from simulation.shop_files import unix_time
from simulation.world import Chances, World


class PolicyName(StrEnum):
    CLOSED = "closed"
    """The champion, whichever it is."""
    FROZEN = "frozen"
    """The first release for ever."""
    POPULAR = "popular"
    ORACLE = "oracle"


class Page(NamedTuple):
    items: list[int]
    release: int | None = None
    tier: str | None = None
    recommendation_id: str | None = None


class Policy(Protocol):
    async def refresh(self) -> None:
        """Called before the visits of a slice of time."""
        ...

    async def page(self, visit: Visit, wanted: Chances) -> Page: ...

    async def tell(self, deeds: Sequence[Deed]) -> None:
        """What a visitor did, at least one deed."""
        ...


@dataclass
class Served:
    """The pages of a release, through the public API."""

    client: ShopClient
    world: World
    size: int
    variant: str | None = None
    """As in X-Variant; None leaves it to the stack."""
    acknowledged: int = 0
    """Events."""

    async def refresh(self) -> None:
        pass

    async def page(self, visit: Visit, wanted: Chances) -> Page:  # noqa: ARG002 - serving does not know what is wanted
        shown = await self.client.recommendations(visit.visitor.user_id, self.size, self.variant)
        items = [self.world.places[item_id] for item_id in shown.item_ids]
        return Page(items, shown.release, shown.tier, shown.recommendation_id)

    async def tell(self, deeds: Sequence[Deed]) -> None:
        events = [
            {
                "user_id": deed.user_id,
                "item_id": self.world.item_ids[deed.item],
                "event": deed.kind,
                "timestamp": round(unix_time(deed.day) + place, 3),  # a second apart, so their order is known
                "recommendation_id": deed.recommendation_id,
            }
            for place, deed in enumerate(deeds)
        ]
        await self.client.send(events)
        self.acknowledged += len(events)


def frozen(client: ShopClient, world: World, size: int) -> Served:
    return Served(client, world, size, CHALLENGER)


@dataclass
class Popular:
    """The stack's popular items, without those that the visitor has seen."""

    client: ShopClient
    world: World
    size: int
    _popular: list[int] = field(default_factory=list)

    async def refresh(self) -> None:
        self._popular = [self.world.places[item_id] for item_id in await self.client.popular(MAX_TOP_K)]

    async def page(self, visit: Visit, wanted: Chances) -> Page:  # noqa: ARG002 - the same for everybody
        return Page([item for item in self._popular if not visit.visitor.seen[item]][: self.size])

    async def tell(self, deeds: Sequence[Deed]) -> None:
        pass


@dataclass
class Oracle:
    """What the visitor wants most."""

    size: int

    async def refresh(self) -> None:
        pass

    async def page(self, visit: Visit, wanted: Chances) -> Page:  # noqa: ARG002 - it needs nothing but the truth
        return Page(np.argsort(-wanted)[: self.size].tolist())

    async def tell(self, deeds: Sequence[Deed]) -> None:
        pass
