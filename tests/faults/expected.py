"""What is asked under load, what makes an answer valid, and which tier is right for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count, cycle
from typing import Any

from pydantic import ValidationError

from recsys.contracts.recommendation import RecommendationResponse
from tests import toy

TOP_K = 10


class Kind(StrEnum):
    KNOWN = "known"
    """A user with a history and a list computed ahead."""
    KNOWN_SESSION = "known, session"
    """The same, with what was done just now."""
    VISITOR = "visitor"
    """Nobody we know, with what was done just now."""
    UNKNOWN = "unknown"
    """Nobody we know, who did nothing yet."""
    CANDIDATES = "candidates"
    """A known user, with a list to be ranked."""


MIX = (
    *(Kind.KNOWN, Kind.KNOWN_SESSION, Kind.UNKNOWN, Kind.KNOWN, Kind.CANDIDATES),
    *(Kind.KNOWN, Kind.KNOWN_SESSION, Kind.VISITOR, Kind.KNOWN, Kind.UNKNOWN),
)


@dataclass(frozen=True)
class Asked:
    kind: Kind
    body: dict[str, Any]
    unwanted: frozenset[str] = frozenset()
    """What must never be in the answer."""
    seen: frozenset[str] = frozenset()
    """What must not be in it while the features are known."""
    expected: int = TOP_K
    """How many items the answer has."""


def questions() -> Iterator[Asked]:
    """Without end, the kinds in turn, and users and items in turn too."""
    for number, kind in zip(count(), cycle(MIX), strict=False):
        yield _question(number, kind)


def _question(number: int, kind: Kind) -> Asked:
    users = list(toy.USERS)
    known = users[number % len(users)]
    session = [toy.ITEM_IDS[(5 * number + step) % len(toy.ITEM_IDS)] for step in range(3)]
    excluded = [toy.ITEM_IDS[(11 * number) % len(toy.ITEM_IDS)]] if number % 3 == 0 else []
    body: dict[str, Any] = {"user_id": known, "top_k": TOP_K, "exclude_items": excluded}
    seen = frozenset(toy.USERS[known])
    match kind:
        case Kind.KNOWN:
            return Asked(kind, body, frozenset(excluded), seen)
        case Kind.KNOWN_SESSION:
            return Asked(kind, {**body, "session_items": session}, frozenset([*excluded, *session]), seen)
        case Kind.VISITOR:
            body |= {"user_id": f"visitor-{number}", "session_items": session}
            return Asked(kind, body, frozenset([*excluded, *session]))
        case Kind.UNKNOWN:
            return Asked(kind, {**body, "user_id": f"nobody-{number}"}, frozenset(excluded))
        case Kind.CANDIDATES:
            candidates = [toy.ITEM_IDS[(3 * number + step) % len(toy.ITEM_IDS)] for step in range(20)]
            return Asked(kind, {**body, "candidate_items": candidates}, frozenset(excluded))


@dataclass
class Answered:
    asked: Asked
    sent: float
    """On the clock of time.perf_counter, as is `received`."""
    received: float = 0.0
    status: int = 0
    text: str = ""
    shed: bool = False
    """Whether it was refused as the machine had too much to do, and told when to come again."""
    answer: RecommendationResponse | None = None
    problems: list[str] = field(default_factory=list)
    """What is not valid about it."""

    @property
    def milliseconds(self) -> float:
        return (self.received - self.sent) * 1000

    @property
    def told(self) -> str:
        """Tier and reason."""
        return f"{self.answer.tier} {self.answer.tier_reason}" if self.answer else f"status {self.status}"

    def judge(self, retry_after: str | None) -> None:
        """Find out what is not valid, whatever the tier."""
        self.shed = self.status == 429 and retry_after is not None
        if self.shed:
            return
        if self.status != 200:
            self.problems.append(f"status {self.status}: {self.text[:200]}")
            return
        try:
            self.answer = RecommendationResponse.model_validate_json(self.text)
        except ValidationError as error:
            self.problems.append(f"no RecommendationResponse: {error}")
            return
        shown = [each.item_id for each in self.answer.recommendations]
        features_known = not self.answer.tier_reason.startswith("features:")
        wrong = {
            "of somebody else": self.answer.user_id != self.asked.body["user_id"],
            f"{len(shown)} items": len(shown) != self.asked.expected,
            "duplicates": len(set(shown)) != len(shown),
            "ranks": [each.rank for each in self.answer.recommendations] != list(range(1, len(shown) + 1)),
            "unknown items": not set(shown) <= set(toy.ITEM_IDS),
            "excluded items": bool(set(shown) & self.asked.unwanted),
            "seen items": features_known and bool(set(shown) & self.asked.seen),
            "not the candidates": not set(shown) <= set(self.asked.body.get("candidate_items", toy.ITEM_IDS)),
        }
        self.problems += [name for name, is_wrong in wrong.items() if is_wrong]
