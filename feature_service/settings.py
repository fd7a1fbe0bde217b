"""Settings of the feature service, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FeatureServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FEATURE_SERVICE_", env_ignore_empty=True)

    redis_url: str = Field(validation_alias="REDIS_URL")
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
