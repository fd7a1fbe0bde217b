"""Settings of the feature service, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.adapters.redis_event_log import MAX_LOG_ENTRIES
from recsys.adapters.redis_keys import BUCKETS
from recsys.internal_token import InternalToken


class FeatureServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FEATURE_SERVICE_", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: str = Field(validation_alias="REDIS_URL")
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry. Without it, every call is answered."""
    user_ttl_days: int = Field(default=180, ge=1)
    """A user without events for this long is forgotten. `make seed` counts from the time that it runs."""
    popular_seconds: float = Field(default=5.0, ge=0)
    """How old popular items may be. They are read from every bucket of users, and kept for this long."""
    log_entries: int = Field(default=MAX_LOG_ENTRIES, ge=BUCKETS)
    """Events that may wait in Redis for the collector, and as many impressions. Further ones are refused."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")

    @property
    def user_ttl_seconds(self) -> int:
        return self.user_ttl_days * 86_400
