"""Settings of the feature service, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.internal_token import InternalToken


class FeatureServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FEATURE_SERVICE_", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: str = Field(validation_alias="REDIS_URL")
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry. Without it, every call is answered."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
