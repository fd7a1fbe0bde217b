"""Event logs written by hand, as the collector writes them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from events.log_files import LogFiles
from recsys.contracts.event_kinds import KindMeaning
from recsys.contracts.event_log import Impression, LoggedEvent, LogTable
from recsys.contracts.events import Event
from recsys.contracts.recommendation import Exploration, Tier

NOON = 1_795_348_800.0
"""2026-11-22T12:00 in UTC."""


@dataclass
class LogByHand:
    root: Path
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def files(self) -> LogFiles:
        return LogFiles(str(self.root))

    def show(self, *impressions: Impression) -> None:
        """Write a file of impressions."""
        self._write(LogTable.IMPRESSIONS, impressions)

    def record(self, *events: LoggedEvent) -> None:
        """Write a file of events."""
        self._write(LogTable.EVENTS, events)

    def _write(self, table: LogTable, entries: Iterable[Impression | LoggedEvent]) -> None:
        entries = list(entries)
        milliseconds = int(min(entry.server_time for entry in entries) * 1000)
        first, number = f"{milliseconds}-{next(self._numbers)}", next(self._numbers)
        self.files.write(
            table, number % 16, first, f"{milliseconds}-{number}", [entry.model_dump_json() for entry in entries]
        )


def impression(
    name: str,
    at: float = NOON,
    *,
    user: str = "u",
    items: str = "abc",
    release: int | None = 1,
    variant: str = "champion",
    placement: str = "home",
    tier: Tier = Tier.PERSONALIZED,
    exploration: Exploration | None = None,
) -> Impression:
    """An impression with an item per letter of `items`."""
    return Impression(
        recommendation_id=name,
        user_id=user,
        item_ids=list(items),
        release_version=release,
        variant=variant,
        tier=tier,
        tier_reason="complete",
        placement=placement,
        exploration=exploration,
        server_time=at,
    )


def event(
    name: str | None, item: str, at: float = NOON + 60, *, kind: str = "click", user: str = "u", event_id: str = ""
) -> LoggedEvent:
    """An event with an item of the recommendation `name`. The kind `dislike` is negative."""
    event_id = event_id or f"{name}.{item}.{kind}.{at}"
    sent = Event(event_id=event_id, user_id=user, item_id=item, event=kind, timestamp=7, recommendation_id=name)
    return LoggedEvent.of(sent, at, KindMeaning(negative=kind == "dislike"))
