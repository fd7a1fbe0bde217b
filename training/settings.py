"""Settings of the jobs, read from the environment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from events.settings import default_event_log
from recsys import clock
from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY, NUM_CANDIDATES
from recsys.internal_token import InternalToken
from recsys.ramp import EVERYBODY, parse_steps
from training.datasets.bad_rows import BadRowsPolicy
from training.datasets.splits import DEFAULT_CUTS, MAX_CUTS, TEMPORAL_SHARES, Shares, SplitKind, rolling_shares
from training.indexing.recall_target import RecallTarget

SECOND_STAGE_SHARE = 0.35
"""The second stage's share of `train_minutes`."""
MAX_SECOND_STAGE_SECONDS = 240.0
REPEATS = ("complete-journey",)
"""The data sets whose seen items may be recommended again, unless EXCLUDE_SEEN says otherwise."""


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_in_utc)]


class JobSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    dataset: str = "shop"
    """The data set: shop, ml-latest-small, ml-100k, ml-1m, ml-20m, ml-25m, ml-32m, complete-journey,
    amazon-<category> or csv."""
    data_source: str | None = None
    """A folder or an archive with a local copy of the data set. If it is not set, the data set is downloaded."""
    data_columns: str | None = None
    """For `csv`: column names in the files, as `user_id=customer,item_id=sku`. The others keep their standard names."""
    bad_rows: BadRowsPolicy = BadRowsPolicy.REFUSE
    """Whether bad rows of the data set are refused or dropped."""
    max_bad_rows: float = Field(default=0.3, ge=0, le=1)
    """The largest share of a file's rows that may be dropped."""
    data_dir: Path = Path("data")
    """The directory of prepared data, trained models and reports."""
    seed: int = 42
    """Seeds the generated shop, the initial weights and every shuffle."""
    train_minutes: float = Field(default=10.0, gt=0)
    """The time budget of one training run for both stages, including the time before interruptions. The final fit takes
    up to a sixth of it more."""
    exclude_seen: bool = Field(default_factory=lambda given: given.get("dataset") not in REPEATS)
    """Whether items that a user has seen are never recommended again: true for films, false for groceries. The default
    is that of the data set."""
    max_history: int = Field(default=MAX_HISTORY, ge=2, le=MAX_HISTORY)
    """How many of a user's latest items the model uses."""
    split: SplitKind = SplitKind.LEAVE_ONE_OUT
    """What is held out: each user's last items, or everything after a point in time or after several, one after
    another, which is for measuring only."""
    cuts: int = Field(default=DEFAULT_CUTS, ge=2, le=MAX_CUTS)
    """How many cuts in time the rolling split has."""
    cut: int | None = Field(default=None, ge=1)
    """Only this cut of the rolling split, from 1; all of them if it is not set."""

    @field_validator("cut")
    @classmethod
    def _is_a_cut_of_the_split(cls, cut: int | None, given: ValidationInfo) -> int | None:
        if cut is not None and given.data.get("split") != SplitKind.ROLLING:
            raise ValueError(f"only SPLIT={SplitKind.ROLLING} has several cuts")
        if cut is not None and cut > given.data.get("cuts", MAX_CUTS):
            raise ValueError(f"there are {given.data['cuts']} cuts")
        return cut

    def of_each_cut(self) -> list["JobSettings"]:
        """These settings for each cut of the rolling split; for the other splits, these settings alone."""
        if self.split != SplitKind.ROLLING or self.cut is not None:
            return [self]
        return [self.model_copy(update={"cut": cut}) for cut in range(1, self.cuts + 1)]

    @property
    def shares(self) -> Shares:
        """Where a split in time is cut."""
        assert self.split != SplitKind.ROLLING or self.cut is not None, "one of `of_each_cut` is needed"
        return TEMPORAL_SHARES if self.cut is None else rolling_shares(self.cut, self.cuts)

    @property
    def split_name(self) -> str:
        """The split, with its cut if it has several."""
        return self.split if self.cut is None else f"{self.split}-{self.cut}-of-{self.cuts}"

    @property
    def second_stage_seconds(self) -> float:
        return min(MAX_SECOND_STAGE_SECONDS, SECOND_STAGE_SHARE * self.train_minutes * 60)

    @property
    def towers_seconds(self) -> float:
        return self.train_minutes * 60 - self.second_stage_seconds

    @property
    def processed_dir(self) -> Path:
        return self.data_dir / "processed" / self.dataset

    @property
    def kinds_file(self) -> Path:
        """What the kinds of events mean, if the file exists."""
        return self.data_dir / "kinds" / f"{self.dataset}.toml"

    @property
    def event_log(self) -> str:
        """Where the event log's files are unless EVENT_LOG says otherwise."""
        return default_event_log(self.data_dir, self.dataset)

    @property
    def exports_dir(self) -> Path:
        return self.data_dir / "exports" / self.dataset

    @property
    def models_dir(self) -> Path:
        return self._of_split(self.data_dir / "models" / self.dataset)

    @property
    def reports_dir(self) -> Path:
        return self._of_split(self.data_dir / "reports" / self.dataset)

    def _of_split(self, directory: Path) -> Path:
        """Models for measuring only have a directory of their own, so `latest` never names one of them."""
        if self.split == SplitKind.LEAVE_ONE_OUT:
            return directory
        return directory / self.split if self.cut is None else directory / self.split / f"{self.cut}-of-{self.cuts}"


class RegistrySettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    mlflow_tracking_uri: str


class StartSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    start_from: Literal["champion"] | Annotated[int, Field(ge=1)] | None = None
    """The release whose towers `train` continues: `champion` or a version. If it is not set, it starts from nothing."""


class IndexSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    qdrant_url: str | None = None
    """A Qdrant server. If it is not set, the collection is written to `qdrant_edge_dir`."""
    qdrant_api_key: str | None = None
    qdrant_edge_dir: Path = Path(".run/qdrant")
    num_candidates: int = Field(
        default=NUM_CANDIDATES, ge=10, le=MAX_CANDIDATES, validation_alias="ORCHESTRATOR_NUM_CANDIDATES"
    )
    """The retrieval depth that the index is tuned for, the same as that of requests."""
    index_recall: float | None = Field(default=None, gt=0, le=1)
    """The mean recall that the index has to reach. The default is 0.98, and 0.95 above 200,000 items."""

    rebuild: bool = False
    """Build the collection again even if it exists."""

    @property
    def engine(self) -> str:
        """The engine that search settings were tuned for. They are not valid for the other engine."""
        return "edge" if self.qdrant_url is None else "server"

    def recall_target(self, num_vectors: int) -> RecallTarget:
        default = RecallTarget.for_size(num_vectors)
        return default if self.index_recall is None else replace(default, mean=self.index_recall)


class ServedSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    mlflow_tracking_uri: str | None = None
    """The MLflow server that the measurements are written to. If it is not set, they are only in the report."""
    served_users: int = Field(default=20_000, ge=1)
    """How many test users are replayed through the services, at most. They are a random sample."""


class ReleaseSettings(BaseSettings):
    """Settings of the jobs `index`, `promote`, `ramp`, `rollback` and `prune`."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    version: int | None = Field(default=None, ge=1)
    """The version to index or promote. The default is the version of the latest model."""
    force: bool = False
    """Promote without a comparison with the champion, a version below the best baseline, or one that was rolled back.
    Roll back even while another job changes the champion, which then fails."""
    reason: str | None = Field(default=None, max_length=500)
    """Why `rollback` takes the champion back."""
    promote_margin: float = Field(default=0.05, ge=0, lt=1)
    """How much lower the NDCG@10 of the next champion may be, as a fraction of the champion's."""
    ramp: Annotated[tuple[float, ...], NoDecode, BeforeValidator(parse_steps)] = Field(
        default="100", validate_default=True
    )
    """The champion's shares of the users after a promotion, in percent, ascending: as `10,50,95`. `100` switches at
    once."""
    share: float | None = Field(default=None, gt=0, le=EVERYBODY)
    """The share that `ramp` gives the champion. The default is the next one of the ramp."""
    keep: int = Field(default=3, ge=1)
    """How many of the newest collections `prune` keeps, besides those that are serving."""
    internal_token: SecretStr | None = None
    """The secret that the ranker asks for."""
    ranker_url: str | None = None
    """The rankers, as URLs separated by commas. Each has to load the next champion before it is promoted."""
    no_ranker: bool = False
    """Promote without waiting for a ranker, because none is running yet."""


class ExportFormat(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"


class EventLogSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    event_log: str | None = None
    """Where the event log's files are: a folder or `s3://bucket/prefix`."""


class CollectedSettings(EventLogSettings):
    events_until: Time | None = None
    """`make data` adds the collected events until this time, in UTC. The default is that of the last `make data`."""


class RetrainerSettings(EventLogSettings):
    retrain_every: float = Field(default=24.0, gt=0)
    """Hours from the cut-off of a run to the start of the next one."""
    retrain_after_events: int | None = Field(default=None, ge=1)
    """As soon as this many events were collected since, a run starts earlier."""
    internal_token: InternalToken | None = None
    """The secret that calls have to carry, besides those of probes and Prometheus."""
    log_level: str = "info"


class ExportSettings(EventLogSettings):
    end: Time = Field(default_factory=lambda: datetime.fromtimestamp(clock.now(), UTC), validation_alias="TO")
    """The end of the range, as 2026-11-22 or 2026-11-22T08:00, in UTC. The default is now."""
    start: Time = Field(
        default_factory=lambda others: others["end"] - timedelta(days=1), validate_default=True, validation_alias="FROM"
    )
    """The start of the range. The default is a day before its end."""
    format: ExportFormat = ExportFormat.PARQUET

    @property
    def range_name(self) -> str:
        return f"{self.start:%Y%m%dT%H%M%S}-{self.end:%Y%m%dT%H%M%S}"


class FeatureStoreSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    redis_url: str
    user_ttl_days: int = Field(default=180, ge=1, validation_alias="FEATURE_SERVICE_USER_TTL_DAYS")
    """A user without events for this long after seeding is forgotten."""
    precompute_users: int = Field(default=2_000, ge=0)
    """For how many of the most recently active users `promote` and `precompute` store a list; 0 for none."""

    @property
    def user_ttl_seconds(self) -> int:
        return self.user_ttl_days * 86_400
