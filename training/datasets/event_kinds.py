"""What a data set's kinds of events mean: `DATA_DIR/kinds/<DATASET>.toml`, or the file that comes with the data set."""

import tomllib
from pathlib import Path

import polars as pl
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recsys.contracts.event_kinds import DEFAULT_KINDS, DEFAULT_MEANING, EventKinds, KindMeaning
from recsys.errors import DataError
from training.settings import JobSettings

SHIPPED = Path(__file__).with_name("kinds")


def event_kinds(settings: JobSettings) -> EventKinds:
    """The meanings; without a file, all kinds have the default. Raises DataError if the file is not valid."""
    own, shipped = settings.kinds_file, SHIPPED / f"{settings.dataset}.toml"
    path = own if own.exists() else shipped
    if not path.exists():
        return DEFAULT_KINDS
    try:
        return EventKinds.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"this is not TOML: {error}", file=path) from error
    except ValidationError as error:
        raise DataError("; ".join(_problem(each) for each in error.errors()), file=path) from error


def steps_of(events: pl.Expr, kinds: EventKinds) -> pl.Expr:
    """Whether each event, by its kind, is a step of a history."""
    left_out = [kind for kind, meaning in kinds.root.items() if not meaning.in_history]
    return events.is_in(left_out).not_() if left_out else pl.lit(True)


def by_kind(events: pl.Expr, kinds: EventKinds, name: str) -> pl.Expr:
    """What the kind of each event means: one value of its `KindMeaning`."""
    values = {kind: getattr(meaning, name) for kind, meaning in kinds.root.items()}
    default = getattr(DEFAULT_MEANING, name)
    dtype = pl.Boolean if isinstance(default, bool) else pl.Float32
    if not values:
        return pl.lit(default, dtype)
    return events.replace_strict(values, default=default, return_dtype=dtype)


def _problem(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = ", ".join(KindMeaning.model_fields)
        return f"{place} is not known; expected {known}"
    return f"{place} is {error['input']!r}: {error['msg']}"
