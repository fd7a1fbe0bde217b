"""The shop's own files, as DATASET=csv reads them: the log before the first release, and the items known so far."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from simulation.population import DAY, Deed
from simulation.world import World
from training.atomic import atomic_file
from training.datasets.shop_catalogue import YEAR

START = datetime(YEAR, 1, 1, tzinfo=UTC).timestamp()
LOG, ITEMS = "interactions.parquet", "items.parquet"


def unix_time(day: float) -> float:
    return START + day * DAY


def write_log(folder: Path, world: World, events: Iterable[Deed]) -> int:
    """Returns the number of rows."""
    rows = pl.DataFrame(
        [(each.user_id, world.item_ids[each.item], int(unix_time(each.day)), each.kind) for each in events],
        schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "event": pl.String},
        orient="row",
    ).sort("timestamp", maintain_order=True)
    with atomic_file(folder / LOG) as partial:
        rows.write_parquet(partial)
    return len(rows)


def write_items(folder: Path, world: World, day: float) -> None:
    """Those that have launched. What is sold out stays, as in the catalogue of a shop that may order it again."""
    with atomic_file(folder / ITEMS) as partial:
        world.catalogue.items.filter(pl.Series(world.launch_day <= day)).write_parquet(partial)


def write_shuffled(folder: Path, prepared_log: Path, items: Path, seed: int) -> None:
    """The same users, times and items, but who took which item is lost: a release of it is a bad one."""
    log = pl.read_parquet(prepared_log).select("user_id", "item_id", "timestamp", "event")
    folder.mkdir(parents=True, exist_ok=True)
    log.with_columns(pl.col("item_id").shuffle(seed)).write_parquet(folder / LOG)
    (folder / ITEMS).write_bytes(items.read_bytes())
