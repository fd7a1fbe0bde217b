"""Settings of the collector, read from the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.internal_token import InternalToken


def default_event_log(data_dir: Path, dataset: str) -> str:
    """Where the files are without a setting, for programs that run outside containers."""
    return str((data_dir / "events" / dataset).resolve())


class CollectorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="COLLECTOR_", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: str = Field(validation_alias="REDIS_URL")
    event_log: str = Field(validation_alias="EVENT_LOG")
    """Where the files are: a folder, or `s3://bucket/prefix`."""
    seconds: float = Field(default=60.0, gt=0)
    """Time between two passes over the streams. Each pass writes at most a file per stream and day."""
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry, besides those of probes and Prometheus."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
