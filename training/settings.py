"""What the jobs can be told through the environment."""

from dataclasses import replace
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY, NUM_CANDIDATES
from training.datasets.splits import SplitKind
from training.indexing.recall_target import RecallTarget

SECOND_STAGE_SHARE = 0.2
"""The second stage's share of `train_minutes`."""
MAX_SECOND_STAGE_SECONDS = 240.0


class JobSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    dataset: str = "shop"
    """Which data set: shop, ml-latest-small, ml-100k, ml-1m, ml-20m, ml-25m, ml-32m, amazon-<category> or csv."""
    data_source: str | None = None
    """A folder or an archive with a local copy of the data set; without it the data set is downloaded."""
    data_columns: str | None = None
    """For `csv`: our column names to theirs, as `user_id=customer,item_id=sku`; what is left out keeps our name."""
    data_dir: Path = Path("data")
    """Where prepared data, trained models and reports are written."""
    seed: int = 42
    """Seeds the generated shop, the initial weights and every shuffle."""
    train_minutes: float = Field(default=10.0, gt=0)
    """The time budget of one training run, over all its interruptions."""
    exclude_seen: bool = True
    """Whether what a user has seen is never recommended again: true for films, false for groceries."""
    max_history: int = Field(default=MAX_HISTORY, ge=2, le=MAX_HISTORY)
    """How many of a user's latest items the model looks at."""
    split: SplitKind = SplitKind.LEAVE_ONE_OUT
    """What is held out: each user's last items, or what happened after a cut in time, which is for measuring only."""

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
    def models_dir(self) -> Path:
        return self._of_split(self.data_dir / "models" / self.dataset)

    @property
    def reports_dir(self) -> Path:
        return self._of_split(self.data_dir / "reports" / self.dataset)

    def _of_split(self, directory: Path) -> Path:
        """Apart, so that `latest` never names a model that is for measuring only."""
        return directory if self.split == SplitKind.LEAVE_ONE_OUT else directory / self.split


class RegistrySettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    mlflow_tracking_uri: str


class IndexSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    qdrant_url: str | None = None
    """A Qdrant server; without it the collection is written into `qdrant_edge_dir`."""
    qdrant_api_key: str | None = None
    qdrant_edge_dir: Path = Path(".run/qdrant")
    num_candidates: int = Field(
        default=NUM_CANDIDATES, ge=10, le=MAX_CANDIDATES, validation_alias="ORCHESTRATOR_NUM_CANDIDATES"
    )
    """The retrieval depth that the index is tuned for: that of requests."""
    index_recall: float | None = Field(default=None, gt=0, le=1)
    """Mean recall that the index has to reach; by default 0.98, and 0.95 above 200,000 items."""

    rebuild: bool = False
    """Build the collection again even if it is there."""

    @property
    def engine(self) -> str:
        """Whose settings a version's tag holds; those of one engine say nothing about the other."""
        return "edge" if self.qdrant_url is None else "server"

    def recall_target(self, num_vectors: int) -> RecallTarget:
        usual = RecallTarget.for_size(num_vectors)
        return usual if self.index_recall is None else replace(usual, mean=self.index_recall)


class ServedSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    orchestrator_url: str = "http://127.0.0.1:8000"
    api_key: str | None = Field(default=None, validation_alias="TANDEM_API_KEY")
    """Sent along where the API asks for one."""
    mlflow_tracking_uri: str | None = None
    """Where the release's run is told what was measured; it is told nothing without."""
    served_users: int = Field(default=20_000, ge=1)
    """How many test users are replayed through the services; of more a random sample is."""


class ReleaseSettings(BaseSettings):
    """For the jobs that promote and prune."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    version: int | None = Field(default=None, ge=1)
    """Which version to index or promote; that of the newest trained model by default."""
    force: bool = False
    """Promote in spite of worse offline metrics."""
    promote_margin: float = Field(default=0.05, ge=0, lt=1)
    """By which part of the champion's NDCG@10 the next champion may be worse."""
    keep: int = Field(default=3, ge=1)
    """How many of the newest collections `prune` leaves, besides those that serve."""
    ranker_url: str | None = None
    """Where to wait until a ranker has the next champion loaded; nobody is waited for where nobody answers."""


class FeatureStoreSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    redis_url: str
