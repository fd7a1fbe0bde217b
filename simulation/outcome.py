"""What a seed leaves behind: every page that was looked at, and what happened to the releases."""

import hashlib
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from simulation.plan import Plan
from simulation.policies import PolicyName
from simulation.visits import PageView
from training.atomic import atomic_file

OUTCOME_FILE, VIEWS_FILE = "outcome.json", "views.parquet"
VERSION = 1
"""Raise it when the code changes what is simulated: all seeds are simulated again."""
VIEW_SCHEMA = pl.Schema(
    {
        "policy": pl.String(),
        "user_id": pl.String(),
        "day": pl.Float64(),
        "clicked": pl.Boolean(),
        "release": pl.Int32(),
        "tier": pl.String(),
    }
)


class Mark(BaseModel):
    """Something that happened at the beginning of a day."""

    model_config = ConfigDict(frozen=True)

    day: int
    event: str


class Ramped(BaseModel):
    """How the ramp of a release ended."""

    model_config = ConfigDict(frozen=True)

    release: int
    impressions: int
    """That it served while it ramped."""
    rolled_back: str | None
    """The reason, if the guard took it back."""
    ended: bool
    """Whether the guard came to an end: it took the release back, or gave it to everybody."""


class Outcome(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    seed: int
    plan: Plan
    marks: list[Mark]
    bad: Ramped
    equal: list[Ramped]

    @classmethod
    def read(cls, folder: Path, key: str) -> Self | None:
        """None if the seed is not finished, or was simulated with another key."""
        try:
            found = cls.model_validate_json((folder / OUTCOME_FILE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return found if found.key == key else None

    def write(self, folder: Path, views: list[PageView]) -> None:
        """The outcome is written last, so a seed that was interrupted has none."""
        with atomic_file(folder / VIEWS_FILE) as partial:
            pl.DataFrame(views, schema=VIEW_SCHEMA, orient="row").write_parquet(partial)
        with atomic_file(folder / OUTCOME_FILE) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def key_of(plan: Plan, equal_releases: int) -> str:
    text = f"{VERSION} {equal_releases} {plan.model_dump_json()}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_views(folder: Path) -> pl.DataFrame:
    """[page views] of VIEW_SCHEMA."""
    return pl.read_parquet(folder / VIEWS_FILE)


def served_by(views: list[PageView], release: int) -> int:
    return sum(view.release == release and view.policy == PolicyName.CLOSED for view in views)
