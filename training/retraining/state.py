"""What is known about retraining between processes: the run that goes on or was interrupted, and the last one."""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys import clock
from recsys.errors import DataError
from training.atomic import atomic_file
from training.settings import JobSettings, Time


class Outcome(StrEnum):
    PROMOTED = "promoted"
    UNCHANGED = "unchanged"
    """The champion has learned from the same data."""
    REFUSED = "refused"
    """The new release is worse; the champion stays."""
    FAILED = "failed"


class Run(BaseModel):
    """A run that is not finished. Whoever continues it takes the same events and the same start."""

    model_config = ConfigDict(frozen=True)

    events_until: Time
    start_from: int | None
    """The champion when it began; None if there was none."""
    began: float
    """In Unix time, like all times of a state."""
    failures: int = 0


class Ended(BaseModel):
    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    step: str
    """The step that it ended with."""
    events_until: Time
    began: float
    at: float


class State(BaseModel):
    model_config = ConfigDict(frozen=True)

    run: Run | None = None
    last: Ended | None = None
    succeeded: float | None = None
    """When a run last ended without a failure, whether or not its release was promoted."""
    waiting_since: float
    """Events from then on wait for the next run."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The state; a new one, which waits from now on, if there is none."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls(waiting_since=clock.now())
        except ValidationError as error:
            raise DataError("this is not a state of this version; delete it to begin anew", file=path) from error

    def write(self, path: Path) -> None:
        with atomic_file(path) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def state_file(settings: JobSettings) -> Path:
    return settings.data_dir / "retraining" / f"{settings.dataset}.json"
