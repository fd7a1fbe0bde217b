"""The events that the services have collected, as further rows of a data set's log."""

import polars as pl

from events.log_files import LogFiles
from recsys.contracts.event_log import LogTable
from training.settings import Time

ROW_SCHEMA = pl.Schema({"user_id": pl.String(), "item_id": pl.String(), "timestamp": pl.Int64(), "event": pl.String()})


def collected_events(files: LogFiles, until: Time | None, described: pl.Series) -> pl.DataFrame:
    """[events] of ROW_SCHEMA, from the start to `until` by the services' clock; none without `until`.

    described: the ids of the catalogue's items. Events of other items stay in the event log, and count once the
    catalogue has the item; a data set without descriptions takes all. A client's clock that is ahead is not believed.
    """
    if until is None:
        return pl.DataFrame(schema=ROW_SCHEMA)
    events = files.read_before(LogTable.EVENTS, until).sort("server_time", maintain_order=True)
    if len(described):
        events = events.filter(pl.col("item_id").is_in(described.implode()))
    at = pl.min_horizontal("timestamp", "server_time").floor().cast(pl.Int64)
    return events.select("user_id", "item_id", at.alias("timestamp"), "event").collect()
