"""What the ranker can be told through the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RankerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RANKER_", env_ignore_empty=True)

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    releases_dir: Path
    """Where the ranker keeps its own copies of releases."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """How often the registry is asked who the champion is."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
