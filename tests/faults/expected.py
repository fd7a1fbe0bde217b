"""The requests of the load, and the checks that make a response valid whatever its tier."""

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
    """A user with a history and a precomputed list."""
    KNOWN_SESSION = "known, session"
    """The same, with the items of the current session."""
    VISITOR = "visitor"
    """An unknown user with the items of the current session."""
    UNKNOWN = "unknown"
    """An unknown user without a session."""
    CANDIDATES = "candidates"
    """A known user with a list of items to rank."""


MIX = (
    *(Kind.KNOWN, Kind.KNOWN_SESSION, Kind.UNKNOWN, Kind.KNOWN, Kind.CANDIDATES),
    *(Kind.KNOWN, Kind.KNOWN_SESSION, Kind.VISITOR, Kind.KNOWN, Kind.UNKNOWN),
)


@dataclass(frozen=True)
class Question:
    kind: Kind
    body: dict[str, Any]
    unwanted: frozenset[str] = frozenset()
    """Items that must never be in the response."""
    seen: frozenset[str] = frozenset()
    """Items that must not be in the response while the user's features are available."""
    expected: int = TOP_K
    """The number of items in the response."""


def questions() -> Iterator[Question]:
    """An endless sequence that cycles through kinds, users and items."""
    for number, kind in zip(count(), cycle(MIX), strict=False):
        yield _question(number, kind)


def _question(number: int, kind: Kind) -> Question:
    users = list(toy.USERS)
    known = users[number % len(users)]
    session = [toy.ITEM_IDS[(5 * number + step) % len(toy.ITEM_IDS)] for step in range(3)]
    excluded = [toy.ITEM_IDS[(11 * number) % len(toy.ITEM_IDS)]] if number % 3 == 0 else []
    body: dict[str, Any] = {"user_id": known, "top_k": TOP_K, "exclude_items": excluded}
    seen = frozenset(toy.USERS[known])
    match kind:
        case Kind.KNOWN:
            return Question(kind, body, frozenset(excluded), seen)
        case Kind.KNOWN_SESSION:
            return Question(kind, {**body, "session_items": session}, frozenset([*excluded, *session]), seen)
        case Kind.VISITOR:
            body |= {"user_id": f"visitor-{number}", "session_items": session}
            return Question(kind, body, frozenset([*excluded, *session]))
        case Kind.UNKNOWN:
            return Question(kind, {**body, "user_id": f"unknown-{number}"}, frozenset(excluded))
        case Kind.CANDIDATES:
            candidates = [toy.ITEM_IDS[(3 * number + step) % len(toy.ITEM_IDS)] for step in range(20)]
            return Question(kind, {**body, "candidate_items": candidates}, frozenset(excluded))


@dataclass
class Answered:
    question: Question
    sent: float
    """Seconds of time.perf_counter, like `received`."""
    received: float = 0.0
    status: int = 0
    text: str = ""
    shed: bool = False
    """Whether it was rejected because of overload, with a Retry-After header."""
    response: RecommendationResponse | None = None
    problems: list[str] = field(default_factory=list)
    """The reasons why the response is not valid."""

    @property
    def milliseconds(self) -> float:
        return (self.received - self.sent) * 1000

    @property
    def outcome(self) -> str:
        """Tier and reason, or the status of an error."""
        return f"{self.response.tier} {self.response.tier_reason}" if self.response else f"status {self.status}"

    def validate(self, retry_after: str | None) -> None:
        """Collect the problems of the response that do not depend on its tier."""
        self.shed = self.status == 429 and retry_after is not None
        if self.shed:
            return
        if self.status != 200:
            self.problems.append(f"status {self.status}: {self.text[:200]}")
            return
        try:
            self.response = RecommendationResponse.model_validate_json(self.text)
        except ValidationError as error:
            self.problems.append(f"no RecommendationResponse: {error}")
            return
        shown = [each.item_id for each in self.response.recommendations]
        features_known = not self.response.tier_reason.startswith("features:")
        wrong = {
            "of another user": self.response.user_id != self.question.body["user_id"],
            f"{len(shown)} items": len(shown) != self.question.expected,
            "duplicates": len(set(shown)) != len(shown),
            "ranks": [each.rank for each in self.response.recommendations] != list(range(1, len(shown) + 1)),
            "unknown items": not set(shown) <= set(toy.ITEM_IDS),
            "excluded items": bool(set(shown) & self.question.unwanted),
            "seen items": features_known and bool(set(shown) & self.question.seen),
            "not the candidates": not set(shown) <= set(self.question.body.get("candidate_items", toy.ITEM_IDS)),
        }
        self.problems += [name for name, is_wrong in wrong.items() if is_wrong]
