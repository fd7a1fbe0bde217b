"""Raw log -> interactions.parquet: every row checked, duplicates dropped, sorted by (user, time, order of the file).

Every string is stored once: rows hold 4-byte codes in the alphabetical order of the ids, which become text again when
the file is written. 25 million rows fit in less than 4 GB.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.errors import DataError
from training.datasets.bad_rows import BadRows
from training.datasets.faults import reason, usable_rows
from training.datasets.phases import phase
from training.datasets.tables import RawLog

DUPLICATES = "duplicate_rows"

# Fixed, so that the same rows produce the same bytes.
_ROW_GROUP = 1 << 19
_IDS = ("user_id", "item_id", "event")


@dataclass(frozen=True)
class WrittenLog:
    rows: int
    users: int
    item_ids: pl.Series
    """Every item with interactions, as String, sorted."""
    kinds: pl.Series
    """Every kind of event, as String."""
    first_timestamp: int
    last_timestamp: int
    warnings: dict[str, int]


def write(log: RawLog, collected: pl.DataFrame, path: Path, bad_rows: BadRows) -> WrittenLog:
    """collected: further rows (user_id, item_id, timestamp, event), which come after those of the log."""
    coded = _read(log, bad_rows)
    if len(collected):
        coded = pl.concat([coded, collected.select(pl.col(name).cast(coded.schema[name]) for name in coded.columns)])
    coded = _alphabetical(coded)
    num_raw = coded.height
    with phase(f"sorting {num_raw:,} rows"):
        coded = _sorted_once(coded)
    dropped = num_raw - coded.height
    with phase(f"writing {coded.height:,} rows"):
        coded.lazy().select(
            pl.col("user_id", "item_id").cast(pl.String), "timestamp", pl.col("event").cast(pl.String)
        ).sink_parquet(path, row_group_size=_ROW_GROUP, engine="streaming")
    dtype, kinds = coded.schema["item_id"], coded.schema["event"]
    assert isinstance(dtype, pl.Enum)
    assert isinstance(kinds, pl.Enum)
    return WrittenLog(
        rows=coded.height,
        users=coded["user_id"].n_unique(),
        item_ids=dtype.categories,
        kinds=kinds.categories,
        first_timestamp=int(coded["timestamp"].min()),  # type: ignore[arg-type]
        last_timestamp=int(coded["timestamp"].max()),  # type: ignore[arg-type]
        warnings={DUPLICATES: dropped} if dropped else {},
    )


def _read(log: RawLog, bad_rows: BadRows) -> pl.DataFrame:
    """The good rows, with their ids as Categorical. Raises DataError if bad rows are refused or too many."""
    with phase(f"reading {log.file.name}"):
        coded = _read_fast(log)
    if coded is None:
        with phase(f"reading {log.file.name} line by line"):
            codes = _codes()
            coded = pl.concat([rows.select(*codes, "timestamp") for rows in usable_rows(log, bad_rows)])
            bad_rows.require_few(log.file, coded.height)
    if coded.is_empty():
        raise DataError("the file has no rows", file=log.file)
    return coded


def _read_fast(log: RawLog) -> pl.DataFrame | None:
    """All rows; None if polars cannot read the file, or a row may be bad."""
    suspect = pl.col("suspect") | reason().is_not_null()
    try:
        coded = log.rows.select(*_codes(), "timestamp", suspect=suspect).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError):
        return None
    return None if coded["suspect"].any() else coded.drop("suspect")


def _codes() -> list[pl.Expr]:
    """The ids as Categorical. Frames that share these expressions can be concatenated."""
    return [pl.col(name).cast(pl.Categorical(pl.Categories.random())) for name in _IDS]


def _alphabetical(coded: pl.DataFrame) -> pl.DataFrame:
    """The ids as Enum in alphabetical order."""
    for name in _IDS:
        present = coded[name].unique().cast(pl.String).sort()
        coded = coded.with_columns(pl.col(name).cast(pl.Enum(present)))
    return coded


def _sorted_once(coded: pl.DataFrame) -> pl.DataFrame:
    """Sorted by user, time and position in the file, without duplicates."""
    row = ("user_id", "timestamp", "item_id", "event")
    ordered = coded.with_row_index("place").sort(*row, "place")
    repeated = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in row).fill_null(value=False)
    return ordered.filter(~repeated).sort("user_id", "timestamp", "place").drop("place")
