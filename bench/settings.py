"""Settings of the benchmarks, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SoakSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    soak_minutes: float = Field(default=30.0, gt=0)
    """Duration of `make soak`."""
