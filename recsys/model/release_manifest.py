"""`release.json`: what a release contains, checked by hash. Without torch, for the jobs that only look at releases."""

import hashlib
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import from_json

from recsys.contracts.base import MAX_HISTORY
from recsys.contracts.event_kinds import DEFAULT_KINDS, EventKinds
from recsys.errors import ReleaseDamaged
from recsys.model.files import (
    CONFIG_FILE,
    HISTORIES_FILE,
    ITEMS_FILE,
    RANKING_TABLES_FILE,
    SECOND_STAGE_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
)

RELEASE_FILE = "release.json"
RELEASE_FILES = (WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE, ITEMS_FILE, HISTORIES_FILE)
"""The files of every release."""
SECOND_STAGE_FILES = (SECOND_STAGE_FILE, RANKING_TABLES_FILE)
"""Additional files of a release with a second stage."""
FEATURE_SCHEMA_VERSION = 4
"""Increased when the meaning of the models' inputs or of the index's contents changes.

2: item vectors of length 1, and a sample of histories to verify the index with.
3: recent activity of items in the second stage, and candidates from several sources.
4: candidates that are trending in the user's categories.
"""
WEIGHTS_HASH_LENGTH = 16
"""Hexadecimal digits of the weights' sha256."""


class ReleasePolicy(BaseModel):
    """How a release is served, which is also how it was trained and evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exclude_seen: bool = True
    """True for films, which are watched once; false for groceries, which are bought again."""
    max_history: int = Field(default=MAX_HISTORY, ge=1, le=MAX_HISTORY)
    """Number of latest items that the query tower uses."""
    event_kinds: EventKinds = DEFAULT_KINDS
    """What the kinds of events mean, from the data set."""


class StartedFrom(BaseModel):
    """The release whose towers a training continued."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    weights: str
    """The `weights_hash` of its validation fit."""


class ReleaseManifest(BaseModel):
    """`release.json`: the contents of a release. The registry adds only the version number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    """Identifies the data and the training settings."""
    dataset: str
    data_hash: str
    events_until: str | None = None
    """Until when it learned from collected events, an ISO time; None if it learned from the data set's own log only."""
    started_from: StartedFrom | None = None
    """The release that its towers were trained from; None if they were trained from nothing."""
    validation_fit: str | None = None
    """The `weights_hash` of what `metrics` are of, if this release is its final fit; None if it was measured itself."""
    feature_schema_version: int
    num_items: int
    embedding_dim: int
    file_hashes: dict[str, str]
    """sha256 by file name; either both files of the second stage or neither."""
    metrics: dict[str, float]
    policy: ReleasePolicy = ReleasePolicy()

    @field_validator("file_hashes")
    @classmethod
    def _names_the_files_of_a_release(cls, hashes: dict[str, str]) -> dict[str, str]:
        if set(hashes) not in ({*RELEASE_FILES}, {*RELEASE_FILES, *SECOND_STAGE_FILES}):
            raise ValueError(f"{sorted(hashes)} are not the files of a release")
        return hashes

    @property
    def has_second_stage(self) -> bool:
        return SECOND_STAGE_FILE in self.file_hashes

    def ends_after(self, until: str | None) -> bool:
        """Whether it learned from events after `until`, an ISO time; None is the end of the data set's own log."""
        if self.events_until is None or until is None:
            return self.events_until is not None
        return datetime.fromisoformat(self.events_until) > datetime.fromisoformat(until)

    @property
    def weights_hash(self) -> str:
        """Identifies the weights; embeddings, scores and collections carry it to show which model made them."""
        return _weights_hash(self.file_hashes[WEIGHTS_FILE])

    @property
    def vocabulary_hash(self) -> str:
        return self.file_hashes[VOCABULARY_FILE]

    @classmethod
    def read(cls, directory: Path) -> "ReleaseManifest":
        """Raises `ReleaseDamaged` if it is missing, invalid, or from an incompatible version of Tandem."""
        path = directory / RELEASE_FILE
        try:
            content = from_json(path.read_bytes())
            schema = content["feature_schema_version"] if isinstance(content, dict) else None
            if isinstance(schema, int) and schema != FEATURE_SCHEMA_VERSION:
                raise ReleaseDamaged(
                    f"{path} has feature schema {schema} and this version of Tandem serves {FEATURE_SCHEMA_VERSION}; "
                    "train and promote a new release with `make pipeline`"
                )
            return cls.model_validate(content)
        except (OSError, ValueError, KeyError) as error:  # pydantic's errors are ValueErrors
            raise ReleaseDamaged(f"{path} does not describe a release: {error}") from error


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_of(directory: Path) -> str:
    """The `weights_hash` of a trained model, before it becomes a release."""
    return _weights_hash(hash_file(directory / WEIGHTS_FILE))


def _weights_hash(file_hash: str) -> str:
    return file_hash[:WEIGHTS_HASH_LENGTH]


def verify_release(directory: Path) -> ReleaseManifest:
    """The manifest of a release, after checking the hash of every file. Raises `ReleaseDamaged`."""
    manifest = ReleaseManifest.read(directory)
    for name, expected in manifest.file_hashes.items():
        path = directory / name
        found = hash_file(path) if path.is_file() else None
        if found != expected:
            raise ReleaseDamaged(f"{path} has the hash {found}; {RELEASE_FILE} expects {expected}")
    return manifest
