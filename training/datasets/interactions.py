"""Raw log -> interactions.parquet: every row checked, duplicates dropped, sorted by (user, time, order of the file).

Every string is stored once: rows hold 4-byte codes in the alphabetical order of the ids, which become text again when
the file is written. 25 million rows fit in less than 4 GB.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.errors import DataError
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
    first_timestamp: int
    last_timestamp: int
    warnings: dict[str, int]


def write(log: RawLog, path: Path) -> WrittenLog:
    with phase(f"reading {log.file.name}"):
        coded = _checked(log)
    num_raw = coded.height
    with phase(f"sorting {num_raw:,} rows"):
        coded = _sorted_once(coded)
    dropped = num_raw - coded.height
    with phase(f"writing {coded.height:,} rows"):
        coded.lazy().select(
            pl.col("user_id", "item_id").cast(pl.String), "timestamp", pl.col("event").cast(pl.String)
        ).sink_parquet(path, row_group_size=_ROW_GROUP, engine="streaming")
    dtype = coded.schema["item_id"]
    assert isinstance(dtype, pl.Enum)
    return WrittenLog(
        rows=coded.height,
        users=coded["user_id"].n_unique(),
        item_ids=dtype.categories,
        first_timestamp=int(coded["timestamp"].min()),  # type: ignore[arg-type]
        last_timestamp=int(coded["timestamp"].max()),  # type: ignore[arg-type]
        warnings={DUPLICATES: dropped} if dropped else {},
    )


def _checked(log: RawLog) -> pl.DataFrame:
    """The rows with their ids as Enum in alphabetical order. Raises DataError for the first error."""
    empty = [pl.col(name).fill_null("") == "" for name in ("user_id", "item_id")]
    untimed = pl.col("timestamp").is_null()
    bad = pl.any_horizontal(*empty, untimed)
    codes = [pl.col(name).cast(pl.Categorical(pl.Categories.random())) for name in _IDS]
    try:
        rows = log.rows.select(
            *codes,
            "timestamp",
            suspect=pl.col("suspect") | bad,
            bad=bad,
            blank=pl.all_horizontal(*empty, untimed),
        )
        coded = rows.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as exc:
        log.explain()
        raise DataError(f"the file cannot be read: {exc}", file=log.file) from exc
    if coded["suspect"].any():
        log.explain()
        coded = coded.filter(~pl.col("blank"))
        if coded["bad"].any():
            raise DataError(f"{coded['bad'].sum():,} rows lack an id or a timestamp", file=log.file)
    if coded.is_empty():
        raise DataError("the file has no rows", file=log.file)
    coded = coded.drop("suspect", "bad", "blank")
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
