"""What the kinds of events mean: how much a model learns from each, and whether an event keeps its item away."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

MAX_KINDS = 100
MAX_WEIGHT = 100.0

KindName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class KindMeaning(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weight: float = Field(default=1.0, ge=0, le=MAX_WEIGHT, allow_inf_nan=False)
    """How much an event counts in training. Events of weight 0 are in no history and nothing is learned from them."""
    negative: bool = False
    """Whether the user does not want the item. Then the item and its near neighbours are not recommended."""
    seen: bool = True
    """Whether a release that excludes seen items excludes the item afterwards."""

    @model_validator(mode="after")
    def _negative_alone(self) -> Self:
        if self.negative and (self.weight != 1 or not self.seen):
            raise ValueError("a negative kind has no weight and no seen: its items are kept away in any case")
        return self

    @property
    def in_history(self) -> bool:
        """Whether its events are steps of a user's history."""
        return not self.negative and self.weight > 0

    @property
    def marks_seen(self) -> bool:
        return not self.negative and self.seen


DEFAULT_MEANING = KindMeaning()


class EventKinds(RootModel[Annotated[dict[KindName, KindMeaning], Field(max_length=MAX_KINDS)]]):
    """The meanings by kind. A kind that is missing has the default: weight 1, positive, seen."""

    model_config = ConfigDict(frozen=True)

    root: Annotated[dict[KindName, KindMeaning], Field(max_length=MAX_KINDS)] = {}

    def __hash__(self) -> int:
        return hash(frozenset(self.root.items()))

    def of(self, kind: str) -> KindMeaning:
        return self.root.get(kind, DEFAULT_MEANING)

    def only(self, kinds: Iterable[str]) -> "EventKinds":
        """The meanings of these kinds alone."""
        return EventKinds({kind: self.root[kind] for kind in kinds if kind in self.root})


DEFAULT_KINDS = EventKinds()
