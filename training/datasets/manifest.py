"""The files of prepared data, and the manifest that describes them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json

from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds
from recsys.errors import DataError

INTERACTIONS_FILE = "interactions.parquet"
CATALOGUE_FILE = "items.parquet"
MANIFEST_FILE = "manifest.json"

SCHEMA_VERSION: Literal[1] = 1


EVENTS_UNTIL = "events_until"
"""In `Manifest.source`: the cut-off of the collected events, an ISO time; missing if there are none."""
EVENT_KINDS = "event_kinds"
"""In `Manifest.source`: the meanings of kinds; missing if all have the default."""


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    dataset: str
    rows: int
    users: int
    items: int
    """Items with interactions; the catalogue in the items file may be larger."""
    catalogue: int
    """Rows of the items file."""
    first_timestamp: int
    last_timestamp: int
    collected_events: int = 0
    """Rows that come from the event log of the services, before duplicates are dropped."""
    event_kinds: EventKinds = DEFAULT_KINDS
    """What the kinds of events mean."""
    content_hash: str
    """sha256, in hex, over the bytes of the interactions file and then of the items file."""
    warnings: dict[str, int]
    rejected: dict[str, dict[str, int]] = {}
    """Bad rows that were dropped, by file and reason. They are listed in the rejects file."""
    schema_version: Literal[1] = SCHEMA_VERSION
    source: dict[str, JsonValue]
    """Fingerprint of the inputs. Data is prepared again only if it changes."""

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        path = directory / MANIFEST_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as exc:
            raise DataError("there is no prepared data here; run `make data` first", file=path) from exc
        except ValidationError as exc:
            raise DataError("this is not a manifest of this version; run `make data` again", file=path) from exc

    def write(self, directory: Path) -> None:
        (directory / MANIFEST_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def events_until(directory: Path) -> str | None:
    """The cut-off of the collected events in prepared data, an ISO time; None if it has only the data set's own log."""
    source = from_json((directory / MANIFEST_FILE).read_bytes()).get("source", {})
    until: str | None = source.get(EVENTS_UNTIL)
    return until


def prepared_kinds(directory: Path) -> EventKinds:
    """What the kinds of events in prepared data mean."""
    return EventKinds.model_validate(from_json((directory / MANIFEST_FILE).read_bytes()).get("event_kinds", {}))
