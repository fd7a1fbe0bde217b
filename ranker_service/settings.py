"""Settings of the ranker service, read from the environment."""

from pathlib import Path

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.internal_token import InternalToken


class RankerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RANKER_", env_ignore_empty=True, hide_input_in_errors=True)

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    releases_dir: Path
    """Directory for local copies of releases."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """Interval between checks of the registry's aliases."""
    feature_service_url: str | None = Field(default=None, validation_alias="FEATURE_SERVICE_URL")
    """Where the live activity of items is read from. Without it, they keep that at the end of the log."""
    activity_seconds: float = Field(default=5.0, gt=0)
    """Interval between reads of the live activity of items."""
    memory_limit: ByteSize | None = None
    """Memory that this process may allocate, as `4GB`. By default the limit of its container or, without one, what the
    machine has available."""
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry. Without it, every call is answered."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
