"""Prepare a data set for the other jobs: `python -m training.jobs.prepare`.

Writes interactions.parquet, items.parquet and manifest.json to `data/processed/<DATASET>`, and rejects.csv if bad rows
were dropped. Nothing is written again if the inputs are unchanged.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import JsonValue

from events.log_files import LogFiles
from recsys.contracts.event_kinds import EventKinds
from recsys.errors import DataError
from training.atomic import atomic_directory, exclusive_lock
from training.datasets import interactions, item_values, items
from training.datasets.bad_rows import REJECTS_FILE, BadRows
from training.datasets.collected_events import collected_events
from training.datasets.event_kinds import event_kinds
from training.datasets.manifest import CATALOGUE_FILE, EVENT_KINDS, EVENTS_UNTIL, INTERACTIONS_FILE, Manifest
from training.datasets.registry import dataset_of
from training.datasets.tables import Dataset
from training.job import run_job
from training.settings import CollectedSettings, JobSettings

NO_SUCH_KIND = "kinds_without_events"
_WARNINGS = {
    interactions.DUPLICATES: "rows repeat an earlier row (same user, item, timestamp and event) and were dropped",
    NO_SUCH_KIND: "kinds that have a meaning occur in no event; is a name misspelt?",
    items.TWICE: "items are described more than once; the first description was kept",
    items.UNDESCRIBED: "items have interactions but no description",
    items.UNTITLED: "items are described without a title",
    item_values.UNREADABLE_YEAR: "years in the items file cannot be read and were left empty",
    item_values.UNREADABLE_PRICE: "prices in the items file cannot be read and were left empty",
}
# Timestamps before 1973 are usually positions in a sequence.
_FIRST_TIME = 100_000_000


def prepare(settings: JobSettings) -> str:
    dataset, kinds = dataset_of(settings), event_kinds(settings)
    directory = settings.processed_dir
    with exclusive_lock(directory):
        # Taken before reading, so that the next run prepares again if a file changes meanwhile.
        previous = _prepared(directory)
        until = _events_until(previous)
        fingerprint = dataset.fingerprint() | ({} if until is None else {EVENTS_UNTIL: until.isoformat()})
        fingerprint |= {EVENT_KINDS: kinds.model_dump()} if kinds.root else {}
        if previous is not None and previous.source == fingerprint:
            return f"{directory} is up to date: {_summary(previous)}"
        with atomic_directory(directory) as partial:
            manifest = _write(dataset, settings, kinds, until, fingerprint, partial)
    for file, reasons in manifest.rejected.items():
        counts = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
        print(f"warning: rows of {file} were dropped: {counts}; see {directory / REJECTS_FILE}", flush=True)
    for problem, count in manifest.warnings.items():
        print(f"warning: {count:,} {_WARNINGS[problem]}", flush=True)
    return f"{settings.dataset}: {_summary(manifest)} -> {directory}"


def _prepared(directory: Path) -> Manifest | None:
    if not all((directory / name).exists() for name in (INTERACTIONS_FILE, CATALOGUE_FILE)):
        return None
    try:
        return Manifest.read(directory)
    except DataError:
        return None


def _events_until(previous: Manifest | None) -> datetime | None:
    """The cut-off of collected events: EVENTS_UNTIL, or that of the data that is prepared; None for the log alone."""
    wanted = CollectedSettings().events_until
    if wanted is not None or previous is None:
        return wanted
    until = previous.source.get(EVENTS_UNTIL)
    return datetime.fromisoformat(until) if isinstance(until, str) else None


def _write(
    dataset: Dataset,
    settings: JobSettings,
    kinds: EventKinds,
    until: datetime | None,
    fingerprint: dict[str, JsonValue],
    directory: Path,
) -> Manifest:
    rejects, files = directory / REJECTS_FILE, LogFiles(CollectedSettings().event_log or settings.event_log)
    with BadRows(settings.bad_rows, settings.max_bad_rows, rejects) as bad_rows, dataset.open(bad_rows) as raw:
        collected = collected_events(files, until, raw.items.rows["item_id"])
        log = interactions.write(raw.log, collected, directory / INTERACTIONS_FILE, bad_rows)
        catalogue, item_warnings = items.write(raw.items, log.item_ids, directory / CATALOGUE_FILE)
    manifest = Manifest(
        dataset=settings.dataset,
        rows=log.rows,
        users=log.users,
        items=len(log.item_ids),
        catalogue=catalogue,
        first_timestamp=log.first_timestamp,
        last_timestamp=log.last_timestamp,
        content_hash=_content_hash(directory),
        warnings=log.warnings | raw.items.warnings | item_warnings | _without_events(kinds, log.kinds),
        rejected=bad_rows.counts,
        collected_events=len(collected),
        event_kinds=kinds,
        source=fingerprint,
    )
    manifest.write(directory)
    return manifest


def _without_events(kinds: EventKinds, occurring: pl.Series) -> dict[str, int]:
    missing = len(kinds.root.keys() - set(occurring))
    return {NO_SUCH_KIND: missing} if missing else {}


def _content_hash(directory: Path) -> str:
    total = hashlib.sha256()
    for name in (INTERACTIONS_FILE, CATALOGUE_FILE):
        with (directory / name).open("rb") as file:
            while piece := file.read(1 << 20):
                total.update(piece)
    return total.hexdigest()


def _summary(manifest: Manifest) -> str:
    first, last = manifest.first_timestamp, manifest.last_timestamp
    if first < _FIRST_TIME:
        span = f"timestamps {first:,} to {last:,}"
    else:
        span = " to ".join(datetime.fromtimestamp(moment, UTC).date().isoformat() for moment in (first, last))
    collected = f" ({manifest.collected_events:,} of them collected)" if manifest.collected_events else ""
    return f"{manifest.rows:,} interactions{collected}, {manifest.users:,} users, {manifest.items:,} items, {span}"


if __name__ == "__main__":
    run_job("prepare", prepare)
