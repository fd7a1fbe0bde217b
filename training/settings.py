"""What the jobs can be told through the environment or `.env`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JobSettings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

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

    @property
    def processed_dir(self) -> Path:
        return self.data_dir / "processed" / self.dataset

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models" / self.dataset

    @property
    def reports_dir(self) -> Path:
        return self.data_dir / "reports" / self.dataset
