"""Settings of the ranker service, read from the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RankerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RANKER_", env_ignore_empty=True)

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    releases_dir: Path
    """Directory for local copies of releases."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """Interval between checks of the registry's aliases."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
