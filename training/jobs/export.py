"""Write the event log of a range of time to files: `python -m training.jobs.export`."""

from pathlib import Path

import polars as pl

from events.log_files import LogFiles
from recsys.contracts.event_log import LogTable
from recsys.errors import JobError
from training.atomic import atomic_file
from training.job import run_job
from training.settings import ExportFormat, ExportSettings, JobSettings


def export(settings: JobSettings) -> str:
    """The job. Events and impressions with a `server_time` from FROM on and before TO, by time, each once."""
    wanted = ExportSettings()
    if wanted.start >= wanted.end:
        raise JobError(f"FROM is {wanted.start.isoformat()}, which is not before TO, {wanted.end.isoformat()}")
    files = LogFiles(wanted.event_log or settings.event_log)
    counts = {}
    for table in LogTable:
        rows = files.read(table, wanted.start, wanted.end).sort("server_time", maintain_order=True).collect()
        _write(rows, settings.exports_dir / f"{table}-{wanted.range_name}.{wanted.format}")
        counts[table] = len(rows)
    found = " and ".join(f"{count:,} {table}" for table, count in counts.items())
    return f"{found} from {wanted.start.isoformat()} to {wanted.end.isoformat()} are in {settings.exports_dir}/"


def _write(rows: pl.DataFrame, path: Path) -> None:
    with atomic_file(path) as partial:
        if path.suffix == f".{ExportFormat.PARQUET}":
            rows.write_parquet(partial)
        else:
            _flat(rows).write_csv(partial)


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """CSV has no lists: an impression becomes a row per item, with its `position` from 1, and what was drawn there."""
    if "item_ids" not in rows.columns:
        return rows
    positions = pl.int_ranges(1, pl.col("item_ids").list.len() + 1).alias("position")
    of_place = pl.col("explored", "propensities").list.get(pl.col("position") - 1, null_on_oob=True)
    return (
        rows.with_columns(positions)
        .explode("item_ids", "position")
        .unnest("exploration")
        .with_columns(of_place)
        .rename({"item_ids": "item_id", "propensities": "propensity"})
    )


if __name__ == "__main__":
    run_job("export", export)
